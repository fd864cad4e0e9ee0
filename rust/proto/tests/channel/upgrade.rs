//! The HTTP upgrade, from both sides.

use proptest::prelude::*;
use runner_proto::ws::{
    InvalidUpgrade, MAX_HEAD, Request, RequestError, RequestTarget, UpgradeError, UpgradeRequest,
    UpgradeResponse, accept_value, parse_request, parse_response, write_response, write_switching_protocols,
};

/// The key of RFC 6455 §1.3, `dGhlIHNhbXBsZSBub25jZQ==`.
const KEY: [u8; 16] = *b"the sample nonce";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn request() -> UpgradeRequest<'static> {
    UpgradeRequest {
        host: "web.whatsapp.com",
        path: "/ws/chat",
        origin: "https://web.whatsapp.com",
        key: KEY,
        extra: &[],
    }
}

fn response(fields: &str) -> String {
    format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n")
}

fn good() -> String {
    response(&format!("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n"))
}

fn invalid(text: &str) -> InvalidUpgrade {
    match parse_response(text.as_bytes(), &KEY) {
        Err(UpgradeError::Invalid(kind)) => kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_request_is_what_known_clients_send() {
    let mut out = Vec::new();
    request().write(&mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "GET /ws/chat HTTP/1.1\r\n\
         Host: web.whatsapp.com\r\n\
         Origin: https://web.whatsapp.com\r\n\
         Sec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Connection: Upgrade\r\n\
         Upgrade: websocket\r\n\
         \r\n"
    );
}

#[test]
fn more_fields_go_last() {
    let mut out = Vec::new();
    UpgradeRequest { extra: &[("X-One", "1 2"), ("X-Two", "")], ..request() }.write(&mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().ends_with("websocket\r\nX-One: 1 2\r\nX-Two: \r\n\r\n"));
}

#[test]
fn no_part_can_smuggle_a_line_into_the_request() {
    let bad = [
        UpgradeRequest { host: "a\r\nb: c", ..request() },
        UpgradeRequest { host: "", ..request() },
        UpgradeRequest { path: "/a b", ..request() },
        UpgradeRequest { path: "ws", ..request() },
        UpgradeRequest { path: "/ü", ..request() },
        UpgradeRequest { origin: "x\n", ..request() },
        UpgradeRequest { extra: &[("a: b\r\nc", "d")], ..request() },
        UpgradeRequest { extra: &[("a", "b\r\nc: d")], ..request() },
        UpgradeRequest { extra: &[("", "b")], ..request() },
    ];
    for bad in bad {
        let mut out = Vec::new();
        assert_eq!(bad.write(&mut out), Err(UpgradeError::Invalid(InvalidUpgrade::Request)), "{bad:?}");
        assert_eq!(out, b"");
    }
}

#[test]
fn the_accept_value_is_that_of_the_rfc() {
    assert_eq!(accept_value(b"dGhlIHNhbXBsZSBub25jZQ=="), ACCEPT.as_bytes());
}

#[test]
fn a_proper_answer_is_accepted_whole_and_in_pieces() {
    let text = good();
    assert_eq!(parse_response(text.as_bytes(), &KEY), Ok(Some(text.len())));
    let wire = [text.as_bytes(), b"\x82\x02hi"].concat();
    for chunk in 1..=wire.len() {
        let mut response = UpgradeResponse::new(KEY);
        let (mut rest, mut done) = (Vec::new(), false);
        for piece in wire.chunks(chunk) {
            let mut piece = piece.to_vec();
            let mut input = piece.as_mut_slice();
            if !done {
                done = response.read(&mut input).unwrap();
                assert!(done || input.is_empty());
            }
            rest.extend_from_slice(input);
        }
        assert!(done);
        assert_eq!(rest, b"\x82\x02hi", "chunk of {chunk}");
    }
}

#[test]
fn field_names_and_tokens_are_compared_without_case() {
    let text = response(&format!(
        "UPGRADE: WebSocket\r\nconnection: keep-alive, upgrade\r\nsec-websocket-accept:   {ACCEPT} \r\n"
    ));
    assert_eq!(parse_response(text.as_bytes(), &KEY), Ok(Some(text.len())));
}

#[test]
fn each_field_of_the_answer_is_checked() {
    let good = good();
    let without = |line: &str| good.replace(line, "");
    assert_eq!(invalid(&without("Upgrade: websocket\r\n")), InvalidUpgrade::Upgrade);
    assert_eq!(invalid(&good.replace("websocket\r", "h2c\r")), InvalidUpgrade::Upgrade);
    assert_eq!(invalid(&without("Connection: Upgrade\r\n")), InvalidUpgrade::Connection);
    assert_eq!(
        invalid(&good.replace("Connection: Upgrade", "Connection: close")),
        InvalidUpgrade::Connection
    );
    assert_eq!(invalid(&good.replace("s3p", "S3p")), InvalidUpgrade::Accept);
    assert_eq!(invalid(&good.replace("Sec-WebSocket-Accept", "X")), InvalidUpgrade::Accept);
    let twice = format!("\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n");
    assert_eq!(invalid(&good.replace("\r\n\r\n", &twice)), InvalidUpgrade::Accept);
    let extension = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    assert_eq!(invalid(&good.replace("\r\n\r\n", extension)), InvalidUpgrade::Extension);
    let protocol = "\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
    assert_eq!(invalid(&good.replace("\r\n\r\n", protocol)), InvalidUpgrade::Protocol);
    assert_eq!(invalid(&good.replace("HTTP/1.1", "HTTP/1.0")), InvalidUpgrade::HttpVersion);
    assert_eq!(invalid("SSH-2.0-OpenSSH_9.2\r\n"), InvalidUpgrade::NotHttp);
}

#[test]
fn a_refusal_keeps_its_status() {
    for status in [200, 301, 400, 403, 429, 503] {
        let text = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 3\r\n\r\nno!");
        assert_eq!(parse_response(text.as_bytes(), &KEY), Err(UpgradeError::Refused { status }));
    }
}

#[test]
fn a_head_is_bounded() {
    let padded = |len: usize| {
        let field = format!("\r\nX-Pad: {}\r\n\r\n", "p".repeat(len));
        good().replace("\r\n\r\n", &field)
    };
    let room = MAX_HEAD - padded(0).len();
    assert_eq!(parse_response(padded(room).as_bytes(), &KEY), Ok(Some(MAX_HEAD)));
    assert_eq!(invalid(&padded(room + 1)), InvalidUpgrade::TooLong);
    for (pad, expected) in [(room, Ok(true)), (room + 1, Err(InvalidUpgrade::TooLong.into()))] {
        let mut response = UpgradeResponse::new(KEY);
        let mut last = Ok(false);
        for byte in padded(pad).into_bytes().chunks_mut(1) {
            if last != Ok(false) {
                break;
            }
            let mut input = byte;
            last = response.read(&mut input);
        }
        assert_eq!(last, expected);
    }
    // A head that never ends is not waited for either.
    let mut endless = vec![b'x'; 3 * MAX_HEAD];
    endless[..17].copy_from_slice(b"HTTP/1.1 101 S\r\nX");
    let result = UpgradeResponse::new(KEY).read(&mut endless.as_mut_slice());
    assert_eq!(result, Err(UpgradeError::Invalid(InvalidUpgrade::TooLong)));
}

#[test]
fn a_truncated_answer_is_waited_for() {
    let text = good();
    for len in 0..text.len() {
        assert_eq!(parse_response(&text.as_bytes()[..len], &KEY), Ok(None), "{len}");
    }
}

// The server's side.

fn parsed(text: &str) -> Result<Option<Request<'_>>, RequestError> {
    parse_request(text.as_bytes())
}

#[test]
fn our_own_request_is_understood_by_our_server() {
    let mut wire = Vec::new();
    request().write(&mut wire).unwrap();
    let len = wire.len();
    wire.extend_from_slice(b"\x82\x80");
    let parsed = parse_request(&wire).unwrap().unwrap();
    let accept = accept_value(b"dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(
        parsed,
        Request {
            target: RequestTarget::WebSocket { accept },
            path: "/ws/chat",
            host: Some("web.whatsapp.com"),
            origin: Some("https://web.whatsapp.com"),
            user_agent: None,
            len,
        }
    );
    let mut answer = Vec::new();
    write_switching_protocols(&mut answer, &accept);
    assert_eq!(parse_response(&answer, &KEY), Ok(Some(answer.len())));
}

#[test]
fn a_truncated_request_is_waited_for() {
    let mut wire = Vec::new();
    request().write(&mut wire).unwrap();
    for len in 0..wire.len() {
        assert_eq!(parse_request(&wire[..len]), Ok(None));
    }
}

#[test]
fn an_ordinary_get_is_a_document() {
    let request = parsed("GET /sw.js?v=1 HTTP/1.1\r\nHost: h\r\nUser-Agent: curl\r\n\r\n").unwrap().unwrap();
    assert_eq!((request.target, request.path), (RequestTarget::Document, "/sw.js?v=1"));
    assert_eq!((request.host, request.user_agent, request.origin), (Some("h"), Some("curl"), None));
    let mut out = Vec::new();
    write_response(&mut out, 404, "Not Found", "text/plain", b"no\n");
    assert_eq!(
        out,
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n"
    );
}

#[test]
fn each_part_of_a_request_is_checked() {
    let mut good = Vec::new();
    request().write(&mut good).unwrap();
    let good = String::from_utf8(good).unwrap();
    let cases = [
        (good.replace("GET", "POST"), RequestError::Method, 405),
        (good.replace("Connection: Upgrade", "Connection: close"), RequestError::Upgrade, 400),
        (good.replace("HTTP/1.1", "HTTP/1.0"), RequestError::Upgrade, 400),
        (good.replace("Version: 13", "Version: 8"), RequestError::Version, 426),
        (good.replace("Sec-WebSocket-Version: 13\r\n", ""), RequestError::Version, 426),
        (good.replace("dGhl", ""), RequestError::Key, 400),
        (good.replace("dGhl", "!!!!"), RequestError::Key, 400),
        (good.replace("Sec-WebSocket-Key", "X-Key"), RequestError::Key, 400),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}".to_owned(), RequestError::NotHttp, 400),
        (
            good.replace("\r\n\r\n", &format!("\r\nX: {}\r\n\r\n", "x".repeat(MAX_HEAD))),
            RequestError::TooLong,
            431,
        ),
        (format!("GET /{}", "x".repeat(MAX_HEAD)), RequestError::TooLong, 431),
        (good.replace("\r\n\r\n", &format!("\r\n{}\r\n", "X: y\r\n".repeat(70))), RequestError::TooLong, 431),
    ];
    for (text, error, status) in cases {
        assert_eq!(parsed(&text), Err(error), "{}", &text[..text.len().min(80)]);
        assert_eq!(error.status(), status);
    }
}

proptest! {
    #[test]
    fn garbage_never_becomes_a_websocket(garbage: Vec<u8>) {
        prop_assert!(!matches!(parse_response(&garbage, &KEY), Ok(Some(_))));
        prop_assert!(!matches!(parse_request(&garbage), Ok(Some(_))));
        let mut garbage = garbage;
        prop_assert!(UpgradeResponse::new(KEY).read(&mut garbage.as_mut_slice()) != Ok(true));
    }
}
