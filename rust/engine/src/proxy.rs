//! Proxies: the URL of one, and the conversation with it as a state machine over bytes.
//!
//! HTTP `CONNECT` (RFC 9110 §9.3.6) with Basic credentials (RFC 7617), SOCKS5 (RFC 1928) with user and password
//! (RFC 1929). The endpoint's name goes to the proxy unresolved, so that names resolve where the traffic leaves.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use runner_proto::close_reason::CloseReason;
use std::fmt;
use std::net::IpAddr;
use thiserror::Error;

/// A proxy as an operator writes it: `http://`, `socks5://` or `socks5h://`, with optional `user:password@`.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: Kind,
    host: Box<str>,
    port: u16,
    credentials: Option<Credentials>,
}

/// Percent-decoded, at most 255 bytes each.
#[derive(Clone, PartialEq, Eq)]
struct Credentials {
    user: Box<[u8]>,
    password: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Socks5,
}

/// Why a proxy URL cannot be used. Says nothing about the credentials in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProxyUrlError {
    /// Not `http`, `socks5` or `socks5h`.
    #[error("the proxy must start with http://, socks5:// or socks5h://")]
    Scheme,
    /// No host, or characters that cannot be in one.
    #[error("the proxy has no valid host")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("the proxy has no valid port")]
    Port,
    /// A broken percent escape, or too long for the protocol.
    #[error("the user or password of the proxy is not valid (percent-encoded, at most 255 bytes)")]
    Credentials,
    /// A path, query or fragment.
    #[error("the proxy must end after its port")]
    Trailing,
}

impl Proxy {
    /// Parses a proxy URL. The port defaults to 1080 for SOCKS5 and to 80 for HTTP.
    pub fn parse(url: &str) -> Result<Self, ProxyUrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(ProxyUrlError::Scheme)?;
        let (kind, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Kind::Http, 80),
            "socks5" | "socks5h" => (Kind::Socks5, 1080),
            _ => return Err(ProxyUrlError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((userinfo, authority)) => (Some(credentials(userinfo)?), authority),
            None => (None, rest),
        };
        if authority.contains(['/', '?', '#']) {
            return Err(ProxyUrlError::Trailing);
        }
        let (host, port) = host_and_port(authority)?;
        Ok(Self { kind, host: host.into(), port: port.unwrap_or(default_port), credentials })
    }

    /// The host to resolve and dial.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Without the credentials: fit for logs and status pages.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            Kind::Http => "http",
            Kind::Socks5 => "socks5h",
        };
        let hidden = if self.credentials.is_some() { "***@" } else { "" };
        write!(f, "{scheme}://{hidden}{}", Authority(&self.host, self.port))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

fn credentials(userinfo: &str) -> Result<Credentials, ProxyUrlError> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let user = percent_decoded(user).filter(|user| !user.is_empty() && !user.contains(&b':'));
    match (user, percent_decoded(password)) {
        (Some(user), Some(password)) => Ok(Credentials { user, password }),
        _ => Err(ProxyUrlError::Credentials),
    }
}

/// `None` for a broken escape and for more than the 255 bytes that RFC 1929 can say.
fn percent_decoded(text: &str) -> Option<Box<[u8]>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push((high << 4 | low) as u8);
        } else {
            decoded.push(byte);
        }
    }
    (decoded.len() <= 255).then(|| decoded.into_boxed_slice())
}

/// Splits `host[:port]`; an IPv6 address stands in brackets, which are removed.
pub(crate) fn host_and_port(authority: &str) -> Result<(&str, Option<u16>), ProxyUrlError> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(ProxyUrlError::Host)?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(ProxyUrlError::Host);
        }
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err(ProxyUrlError::Host),
        }
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    // 253 is the longest name that DNS can say.
    if host.is_empty() || host.len() > 253 || !host.bytes().all(valid) {
        return Err(ProxyUrlError::Host);
    }
    let port = match port {
        Some(digits) => match digits.parse() {
            Ok(port) if port != 0 && digits.bytes().all(|digit| digit.is_ascii_digit()) => Some(port),
            _ => return Err(ProxyUrlError::Port),
        },
        None => None,
    };
    Ok((host, port))
}

/// `host:port` with brackets around an IPv6 address.
pub(crate) struct Authority<'a>(pub(crate) &'a str, pub(crate) u16);

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') {
            write!(f, "[{}]:{}", self.0, self.1)
        } else {
            write!(f, "{}:{}", self.0, self.1)
        }
    }
}

/// The conversation with a proxy that ends with a tunnel to the endpoint.
#[derive(Debug)]
pub(crate) struct Conversation {
    state: State,
    target: Target,
    proxy: Proxy,
    /// What came and does not make a whole answer yet; at most [`MAX_ANSWER`].
    input: Vec<u8>,
}

#[derive(Debug)]
struct Target {
    host: Box<str>,
    port: u16,
}

#[derive(Clone, Copy, Debug)]
enum State {
    HttpAnswer,
    SocksMethod,
    SocksAuth,
    SocksReply,
    Open,
}

/// Why there is no tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxyError {
    pub(crate) reason: CloseReason,
    /// The HTTP status or the SOCKS reply.
    pub(crate) code: Option<u32>,
    pub(crate) detail: &'static str,
}

/// The longest head of an answer to `CONNECT`; real ones have some hundred bytes.
const MAX_ANSWER: usize = 8 * 1024;

impl Conversation {
    /// Starts it: the first bytes to send go to `out`.
    pub(crate) fn start(proxy: Proxy, host: &str, port: u16, out: &mut Vec<u8>) -> Self {
        let target = Target { host: host.into(), port };
        let state = match proxy.kind {
            Kind::Http => {
                http_connect(&proxy, &target, out);
                State::HttpAnswer
            }
            Kind::Socks5 if proxy.credentials.is_some() => {
                out.extend_from_slice(&[5, 2, 0, 2]);
                State::SocksMethod
            }
            Kind::Socks5 => {
                out.extend_from_slice(&[5, 1, 0]);
                State::SocksMethod
            }
        };
        Self { state, target, proxy, input: Vec::new() }
    }

    /// Takes what the proxy sent; `Ok(Some(rest))` when the tunnel is open, `rest` being the endpoint's first bytes.
    pub(crate) fn handle_input(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Vec<u8>>, ProxyError> {
        self.input.extend_from_slice(input);
        loop {
            let Some(used) = self.step(out)? else {
                if self.input.len() > MAX_ANSWER {
                    return Err(failed("the answer of the proxy is too long"));
                }
                return Ok(None);
            };
            self.input.drain(..used);
            if let State::Open = self.state {
                return Ok(Some(std::mem::take(&mut self.input)));
            }
        }
    }

    /// Reads one whole answer; its length, or `None` until more bytes come.
    fn step(&mut self, out: &mut Vec<u8>) -> Result<Option<usize>, ProxyError> {
        match self.state {
            State::HttpAnswer => {
                let Some(end) = self.input.windows(4).position(|window| window == b"\r\n\r\n") else {
                    return Ok(None);
                };
                http_status(&self.input)?;
                self.state = State::Open;
                Ok(Some(end + 4))
            }
            State::SocksMethod => {
                let Some(&[version, method]) = self.input.first_chunk() else { return Ok(None) };
                match (version, method, &self.proxy.credentials) {
                    (5, 0, _) => self.socks_connect(out),
                    (5, 2, Some(Credentials { user, password })) => {
                        out.extend_from_slice(&[1, user.len() as u8]);
                        out.extend_from_slice(user);
                        out.push(password.len() as u8);
                        out.extend_from_slice(password);
                        self.state = State::SocksAuth;
                    }
                    (5, 0xff, _) => {
                        let (reason, detail) = (
                            CloseReason::ProxyAuthFailed,
                            "the proxy accepts none of our ways to authenticate",
                        );
                        return Err(ProxyError { reason, code: None, detail });
                    }
                    _ => return Err(failed("the proxy does not speak SOCKS5")),
                }
                Ok(Some(2))
            }
            State::SocksAuth => {
                // RFC 1929: any status but 0 is a failure; the version is not checked, servers differ.
                let Some(&[_, status]) = self.input.first_chunk() else { return Ok(None) };
                if status != 0 {
                    let (reason, detail) =
                        (CloseReason::ProxyAuthFailed, "the proxy refused user and password");
                    return Err(ProxyError { reason, code: Some(status.into()), detail });
                }
                self.socks_connect(out);
                Ok(Some(2))
            }
            State::SocksReply => {
                let Some(&[version, reply, _, kind, first]) = self.input.first_chunk() else {
                    return Ok(None);
                };
                if version != 5 {
                    return Err(failed("the proxy does not speak SOCKS5"));
                }
                if reply != 0 {
                    let (reason, detail) = (CloseReason::ProxyRefused, socks_reply(reply));
                    return Err(ProxyError { reason, code: Some(reply.into()), detail });
                }
                // The bound address, of no use to us, then its port.
                let address = match kind {
                    1 => 4,
                    3 => 1 + usize::from(first),
                    4 => 16,
                    _ => return Err(failed("the proxy answered with an unknown kind of address")),
                };
                let whole = 4 + address + 2;
                if self.input.len() < whole {
                    return Ok(None);
                }
                self.state = State::Open;
                Ok(Some(whole))
            }
            State::Open => Ok(None),
        }
    }

    fn socks_connect(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[5, 1, 0]);
        match self.target.host.parse() {
            Ok(IpAddr::V4(address)) => {
                out.push(1);
                out.extend_from_slice(&address.octets());
            }
            Ok(IpAddr::V6(address)) => {
                out.push(4);
                out.extend_from_slice(&address.octets());
            }
            Err(_) => {
                // A host name has at most 253 bytes: `host_and_port`.
                out.extend_from_slice(&[3, self.target.host.len() as u8]);
                out.extend_from_slice(self.target.host.as_bytes());
            }
        }
        out.extend_from_slice(&self.target.port.to_be_bytes());
        self.state = State::SocksReply;
    }
}

fn http_connect(proxy: &Proxy, target: &Target, out: &mut Vec<u8>) {
    let authority = Authority(&target.host, target.port);
    out.extend_from_slice(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").as_bytes());
    if let Some(Credentials { user, password }) = &proxy.credentials {
        let both = [user.as_ref(), b":", password.as_ref()].concat();
        out.extend_from_slice(b"Proxy-Authorization: Basic ");
        out.extend_from_slice(BASE64_STANDARD.encode(both).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Any 2xx opens the tunnel.
fn http_status(head: &[u8]) -> Result<(), ProxyError> {
    let status = head.strip_prefix(b"HTTP/1.").and_then(|rest| match rest {
        [b'0' | b'1', b' ', a, b, c, ..] => {
            let digits = [*a, *b, *c].map(|digit| char::from(digit).to_digit(10));
            Some(digits[0]? * 100 + digits[1]? * 10 + digits[2]?)
        }
        _ => None,
    });
    let (reason, detail) = match status {
        Some(200..=299) => return Ok(()),
        Some(407) => (CloseReason::ProxyAuthFailed, "the proxy refused user and password"),
        Some(_) => (CloseReason::ProxyRefused, "the proxy refused to connect to the endpoint"),
        None => return Err(failed("the answer of the proxy is not HTTP")),
    };
    Err(ProxyError { reason, code: status, detail })
}

fn failed(detail: &'static str) -> ProxyError {
    ProxyError { reason: CloseReason::ProxyFailed, code: None, detail }
}

/// The words of RFC 1928 §6.
fn socks_reply(reply: u8) -> &'static str {
    match reply {
        1 => "general SOCKS server failure",
        2 => "connection not allowed by ruleset",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "TTL expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "unassigned SOCKS reply",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn proxy(url: &str) -> Proxy {
        Proxy::parse(url).expect("a proxy")
    }

    /// Feeds `answers` in chunks of `chunk`, returning everything sent and the outcome.
    fn converse(
        url: &str,
        answers: &[&[u8]],
        chunk: usize,
    ) -> (Vec<u8>, Result<Option<Vec<u8>>, ProxyError>) {
        let mut out = Vec::new();
        let mut conversation = Conversation::start(proxy(url), "web.whatsapp.com", 443, &mut out);
        let mut rest = None;
        for piece in answers.iter().flat_map(|answer| answer.chunks(chunk)) {
            match (&mut rest, conversation.handle_input(piece, &mut out)) {
                (Some(rest), _) => Vec::extend_from_slice(rest, piece),
                (none, Ok(opened)) => *none = opened,
                (_, Err(error)) => return (out, Err(error)),
            }
        }
        (out, Ok(rest))
    }

    #[test]
    fn an_http_proxy_gets_the_name_unresolved_and_basic_credentials() {
        let (sent, outcome) = converse(
            "http://user:p%40ss@proxy:3128",
            &[b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nhello"],
            1,
        );
        let text = String::from_utf8(sent).expect("ascii");
        assert_eq!(
            text,
            "CONNECT web.whatsapp.com:443 HTTP/1.1\r\nHost: web.whatsapp.com:443\r\n\
             Proxy-Authorization: Basic dXNlcjpwQHNz\r\n\r\n"
        );
        assert_eq!(outcome, Ok(Some(b"hello".to_vec())), "bytes behind the head belong to the endpoint");
    }

    #[test]
    fn a_socks_proxy_gets_the_name_unresolved_in_any_chunking() {
        let answers: &[&[u8]] = &[&[5, 2], &[1, 0], &[5, 0, 0, 1, 127, 0, 0, 1, 0, 80], b"\x16\x03"];
        for chunk in 1..=10 {
            let (sent, outcome) = converse("socks5://me:pw@proxy", answers, chunk);
            let mut expected = vec![5, 2, 0, 2, 1, 2, b'm', b'e', 2, b'p', b'w', 5, 1, 0, 3, 16];
            expected.extend_from_slice(b"web.whatsapp.com\x01\xbb");
            assert_eq!(sent, expected, "chunk of {chunk}");
            assert_eq!(outcome, Ok(Some(b"\x16\x03".to_vec())), "chunk of {chunk}");
        }
    }

    #[test]
    fn a_bound_address_of_each_kind_is_skipped_whole() {
        let replies: [&[u8]; 3] = [
            &[5, 0, 0, 1, 1, 2, 3, 4, 0, 80],
            &[5, 0, 0, 3, 2, b'a', b'b', 0, 80],
            &[5, 0, 0, 4, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 80],
        ];
        for reply in replies {
            let (_, outcome) = converse("socks5h://proxy", &[&[5, 0], reply, b"x"], 1);
            assert_eq!(outcome, Ok(Some(b"x".to_vec())));
        }
    }

    #[test]
    fn each_refusal_has_its_reason_and_code() {
        type Case = (&'static str, &'static [&'static [u8]], CloseReason, Option<u32>);
        let cases: [Case; 8] = [
            ("http://p", &[b"HTTP/1.1 407 Auth\r\n\r\n"], CloseReason::ProxyAuthFailed, Some(407)),
            ("http://p", &[b"HTTP/1.0 503 No\r\n\r\n"], CloseReason::ProxyRefused, Some(503)),
            ("http://p", &[b"SSH-2.0-x\r\n\r\n"], CloseReason::ProxyFailed, None),
            ("socks5://p", &[&[5, 0xff]], CloseReason::ProxyAuthFailed, None),
            ("socks5://p", &[&[4, 0]], CloseReason::ProxyFailed, None),
            ("socks5://p", &[&[5, 2]], CloseReason::ProxyFailed, None),
            ("socks5://u:p@p", &[&[5, 2], &[1, 1]], CloseReason::ProxyAuthFailed, Some(1)),
            ("socks5://p", &[&[5, 0], &[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]], CloseReason::ProxyRefused, Some(5)),
        ];
        for (url, answers, reason, code) in cases {
            let (_, outcome) = converse(url, answers, 100);
            let error = outcome.expect_err(url);
            assert_eq!((error.reason, error.code), (reason, code), "{url} {answers:?}");
        }
    }

    #[test]
    fn an_endless_answer_is_cut_off() {
        let line = [b'x'; 1024];
        let answers: Vec<&[u8]> = vec![&line; 9];
        let (_, outcome) = converse("http://p", &answers, 1024);
        assert_eq!(outcome.expect_err("too long").reason, CloseReason::ProxyFailed);
    }

    #[test]
    fn urls_are_checked_and_credentials_never_shown() {
        assert_eq!(proxy("socks5h://u:secret@[::1]:9").to_string(), "socks5h://***@[::1]:9");
        assert_eq!(proxy("HTTP://host/").to_string(), "http://host:80");
        assert_eq!(format!("{:?}", proxy("http://u:secret@h")), "Proxy(http://***@h:80)");
        for (url, error) in [
            ("host:80", ProxyUrlError::Scheme),
            ("https://host:80", ProxyUrlError::Scheme),
            ("http://", ProxyUrlError::Host),
            ("http://a b", ProxyUrlError::Host),
            ("http://[::1", ProxyUrlError::Host),
            ("http://h:0", ProxyUrlError::Port),
            ("http://h:65536", ProxyUrlError::Port),
            ("http://h:+1", ProxyUrlError::Port),
            ("http://u%4@h", ProxyUrlError::Credentials),
            ("http://:p@h", ProxyUrlError::Credentials),
            ("http://h/path", ProxyUrlError::Trailing),
        ] {
            assert_eq!(Proxy::parse(url), Err(error), "{url}");
        }
    }

    proptest! {
        #[test]
        fn hostile_answers_never_panic(answer in prop::collection::vec(any::<u8>(), 0..64), socks: bool) {
            let url = if socks { "socks5://u:p@h" } else { "http://h" };
            let _ = converse(url, &[&answer], 3);
        }
    }
}
