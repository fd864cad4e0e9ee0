//! The HTTP exchange that turns a connection into a WebSocket (RFC 6455 §4), from both sides.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest, Sha1};

/// Largest head, of a request or a response, in bytes.
pub const MAX_HEAD: usize = 8 * 1024;

/// Bytes of a `Sec-WebSocket-Accept` value.
pub const ACCEPT_LEN: usize = 28;

/// Most header fields of a head.
const MAX_FIELDS: usize = 64;

/// What RFC 6455 §1.3 has the server append to the key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a client asks for.
///
/// There is no User-Agent and no extension: with so few fields this is what a Node client of WhatsApp
/// sends, bar its compression offer. Source: docs/protocol.md, "Endpoint".
#[derive(Clone, Copy, Debug)]
pub struct UpgradeRequest<'a> {
    /// The authority: host, and port unless it is the scheme's own.
    pub host: &'a str,
    /// The path, with a query if there is one.
    pub path: &'a str,
    /// The value of `Origin`.
    pub origin: &'a str,
    /// 16 random bytes, new for each connection.
    pub key: [u8; 16],
    /// More fields, name and value.
    pub extra: &'a [(&'a str, &'a str)],
}

impl UpgradeRequest<'_> {
    /// Appends the request.
    ///
    /// # Errors
    /// [`InvalidUpgrade::Request`], nothing written, when a part holds a byte that would end its line or
    /// its place in it; a configuration that should not have been accepted.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), UpgradeError> {
        let mut key = [0; 24];
        if BASE64.encode_slice(self.key, &mut key) != Ok(key.len()) || !self.is_writable() {
            return Err(UpgradeError::Invalid(InvalidUpgrade::Request));
        }
        let mut line = |parts: [&[u8]; 4]| parts.iter().for_each(|part| out.extend_from_slice(part));
        line([b"GET ", self.path.as_bytes(), b" HTTP/1.1\r\nHost: ", self.host.as_bytes()]);
        line([b"\r\nOrigin: ", self.origin.as_bytes(), b"\r\nSec-WebSocket-Version: 13", b""]);
        line([b"\r\nSec-WebSocket-Key: ", &key, b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", b""]);
        for (name, value) in self.extra {
            line([name.as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn is_writable(&self) -> bool {
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let is_value = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        self.path.starts_with('/')
            && [self.host, self.path, self.origin].into_iter().all(is_word)
            && self.extra.iter().all(|(name, value)| is_word(name) && !name.contains(':') && is_value(value))
    }
}

/// The `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key` as it stands in the request.
#[must_use]
pub fn accept_value(key: &[u8]) -> [u8; ACCEPT_LEN] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; ACCEPT_LEN];
    let written = BASE64.encode_slice(digest, &mut accept);
    debug_assert_eq!(written, Ok(ACCEPT_LEN), "20 bytes are 28 in base64");
    accept
}

/// Waits for the server's answer to one request.
#[derive(Debug)]
pub struct UpgradeResponse {
    /// The head so far, when it came in pieces; at most [`MAX_HEAD`].
    head: Vec<u8>,
    key: [u8; 16],
}

impl UpgradeResponse {
    /// The answer to the request with this key.
    #[must_use]
    pub const fn new(key: [u8; 16]) -> Self {
        Self { head: Vec::new(), key }
    }

    /// Takes the answer from the front of `input`; true when it was the upgrade, and `input` is then the
    /// first bytes of the WebSocket. False when more is to come, and `input` is used up.
    ///
    /// # Errors
    /// The server refused, or its answer breaks RFC 6455 §4.1. Final.
    pub fn read(&mut self, input: &mut &mut [u8]) -> Result<bool, UpgradeError> {
        let bytes = std::mem::take(input);
        if self.head.is_empty()
            && let Some(len) = parse_response(bytes, &self.key)?
        {
            *input = &mut bytes[len..];
            return Ok(true);
        }
        let before = self.head.len();
        let taken = bytes.len().min(MAX_HEAD - before);
        self.head.extend_from_slice(&bytes[..taken]);
        match parse_response(&self.head, &self.key)? {
            Some(len) => {
                self.head = Vec::new();
                *input = &mut bytes[len - before..];
                Ok(true)
            }
            None if self.head.len() == MAX_HEAD => Err(UpgradeError::Invalid(InvalidUpgrade::TooLong)),
            None => Ok(false),
        }
    }
}

/// Parses a whole response: the length of its head, or `None` when it is not whole yet.
///
/// # Errors
/// As [`UpgradeResponse::read`].
pub fn parse_response(bytes: &[u8], key: &[u8; 16]) -> Result<Option<usize>, UpgradeError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let len = match response.parse(bytes) {
        Ok(httparse::Status::Partial) => return Ok(None),
        Ok(httparse::Status::Complete(len)) if len <= MAX_HEAD => len,
        Ok(httparse::Status::Complete(_)) => return Err(InvalidUpgrade::TooLong.into()),
        Err(_) => return Err(InvalidUpgrade::NotHttp.into()),
    };
    let status = response.code.unwrap_or_default();
    if status != 101 {
        return Err(UpgradeError::Refused { status });
    }
    if response.version != Some(1) {
        return Err(InvalidUpgrade::HttpVersion.into());
    }
    let fields: &[httparse::Header<'_>] = response.headers;
    if !has_token(fields, "Upgrade", b"websocket") {
        return Err(InvalidUpgrade::Upgrade.into());
    }
    if !has_token(fields, "Connection", b"upgrade") {
        return Err(InvalidUpgrade::Connection.into());
    }
    let mut sent = [0; 24];
    let accept = match BASE64.encode_slice(key, &mut sent) {
        Ok(len) => accept_value(&sent[..len]),
        Err(_) => return Err(InvalidUpgrade::Accept.into()),
    };
    if only(fields, "Sec-WebSocket-Accept").is_none_or(|value| value.trim_ascii() != accept) {
        return Err(InvalidUpgrade::Accept.into());
    }
    if values(fields, "Sec-WebSocket-Extensions").next().is_some() {
        return Err(InvalidUpgrade::Extension.into());
    }
    if values(fields, "Sec-WebSocket-Protocol").next().is_some() {
        return Err(InvalidUpgrade::Protocol.into());
    }
    Ok(Some(len))
}

/// A request to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What it asks for.
    pub target: RequestTarget,
    /// The path, with a query if there is one.
    pub path: &'a str,
    /// The value of `Host`, lossless only if it is UTF-8, as it should be.
    pub host: Option<&'a str>,
    /// The value of `Origin`.
    pub origin: Option<&'a str>,
    /// The value of `User-Agent`.
    pub user_agent: Option<&'a str>,
    /// Bytes of the head: what follows is not part of it.
    pub len: usize,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestTarget {
    /// A WebSocket; answer with [`write_switching_protocols`].
    WebSocket {
        /// The value that the answer must carry.
        accept: [u8; ACCEPT_LEN],
    },
    /// A document by GET.
    Document,
}

/// Parses a request; `None` when it is not whole yet.
///
/// # Errors
/// The client's fault; answer with [`RequestError::status`].
pub fn parse_request(bytes: &[u8]) -> Result<Option<Request<'_>>, RequestError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let len = match request.parse(bytes) {
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(httparse::Status::Complete(len)) if len <= MAX_HEAD => len,
        Ok(_) => return Err(RequestError::TooLong),
        Err(httparse::Error::TooManyHeaders) => return Err(RequestError::TooLong),
        Err(_) => return Err(RequestError::NotHttp),
    };
    let fields: &[httparse::Header<'_>] = request.headers;
    let text = |name| values(fields, name).next().and_then(|value| std::str::from_utf8(value).ok());
    if request.method != Some("GET") {
        return Err(RequestError::Method);
    }
    let target = if has_token(fields, "Upgrade", b"websocket") {
        if request.version != Some(1) || !has_token(fields, "Connection", b"upgrade") {
            return Err(RequestError::Upgrade);
        }
        if only(fields, "Sec-WebSocket-Version").map(<[u8]>::trim_ascii) != Some(b"13") {
            return Err(RequestError::Version);
        }
        let key = only(fields, "Sec-WebSocket-Key").map(<[u8]>::trim_ascii).unwrap_or_default();
        if BASE64.decode(key).map(|key| key.len()) != Ok(16) {
            return Err(RequestError::Key);
        }
        RequestTarget::WebSocket { accept: accept_value(key) }
    } else {
        RequestTarget::Document
    };
    Ok(Some(Request {
        target,
        path: request.path.unwrap_or("/"),
        host: text("Host"),
        origin: text("Origin"),
        user_agent: text("User-Agent"),
        len,
    }))
}

/// Appends the answer that accepts an upgrade.
pub fn write_switching_protocols(out: &mut Vec<u8>, accept: &[u8; ACCEPT_LEN]) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept);
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends an ordinary answer, after which the server closes the connection.
pub fn write_response(out: &mut Vec<u8>, status: u16, reason: &str, content_type: &str, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

/// The values of a field, in order.
fn values<'f, 'b>(
    fields: &'f [httparse::Header<'b>],
    name: &'f str,
) -> impl Iterator<Item = &'b [u8]> + use<'f, 'b> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// The value of a field that is there once.
fn only<'b>(fields: &[httparse::Header<'b>], name: &str) -> Option<&'b [u8]> {
    let mut values = values(fields, name);
    values.next().filter(|_| values.next().is_none())
}

/// Whether a field's comma-separated list holds a token.
fn has_token(fields: &[httparse::Header<'_>], name: &str, token: &[u8]) -> bool {
    values(fields, name)
        .flat_map(|value| value.split(|byte| *byte == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

/// Why there is no WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// The server said no, with this HTTP status.
    #[error("server refused the upgrade with status {status}")]
    Refused {
        /// The status code.
        status: u16,
    },
    /// The server's answer, or our request, is no valid upgrade.
    #[error("upgrade is invalid: {0}")]
    Invalid(#[from] InvalidUpgrade),
}

/// What is wrong with an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUpgrade {
    /// Our own request cannot be written.
    #[error("request holds bytes that http does not allow")]
    Request,
    /// The answer is no HTTP.
    #[error("answer is not http")]
    NotHttp,
    /// The head is longer than [`MAX_HEAD`].
    #[error("head is too long")]
    TooLong,
    /// The answer is not HTTP/1.1.
    #[error("answer is not http/1.1")]
    HttpVersion,
    /// No `Upgrade: websocket`.
    #[error("field upgrade is missing or wrong")]
    Upgrade,
    /// No `Connection: Upgrade`.
    #[error("field connection is missing or wrong")]
    Connection,
    /// `Sec-WebSocket-Accept` does not answer our key.
    #[error("field sec-websocket-accept is missing or wrong")]
    Accept,
    /// An extension that was not asked for.
    #[error("extension was not asked for")]
    Extension,
    /// A sub-protocol that was not asked for.
    #[error("sub-protocol was not asked for")]
    Protocol,
}

/// What is wrong with a client's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is no HTTP.
    #[error("request is not http")]
    NotHttp,
    /// The head is longer than [`MAX_HEAD`], or has too many fields.
    #[error("head is too long")]
    TooLong,
    /// Another method than GET.
    #[error("method is not get")]
    Method,
    /// `Upgrade` without the rest of an upgrade.
    #[error("upgrade is incomplete")]
    Upgrade,
    /// Another version than 13.
    #[error("websocket version is not 13")]
    Version,
    /// The key is not 16 bytes in base64.
    #[error("websocket key is missing or wrong")]
    Key,
}

impl RequestError {
    /// The status to answer with.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::Version => 426,
            Self::TooLong => 431,
            Self::NotHttp | Self::Upgrade | Self::Key => 400,
        }
    }
}
