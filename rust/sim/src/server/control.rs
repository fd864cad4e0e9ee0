//! One connection of the control port: HTTP/1.1 with JSON bodies, one request at a time.

use std::io::{self, Read as _, Write as _};

use mio::net::TcpStream;
use serde_json::{Value, json};

use crate::core::{Command, RouteError};

/// Largest request accepted, in bytes; a body may carry many nodes.
const MAX_REQUEST: usize = 32 * 1024 * 1024;
/// Header lines accepted in a request.
const MAX_HEADERS: usize = 64;

/// A client of the control port.
pub(super) struct ControlConnection {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// A command was handed out and has not been answered.
    busy: bool,
    /// Close once `output` is written.
    closing: bool,
    gone: bool,
}

/// What serving a connection came to.
pub(super) enum Served {
    Nothing,
    Gone,
    Command(Box<Command>),
}

/// A whole request at the front of the input.
struct Request {
    command: Result<Command, (u16, String)>,
    keep_alive: bool,
    len: usize,
}

impl ControlConnection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, input: Vec::new(), output: Vec::new(), busy: false, closing: false, gone: false }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone || (self.closing && !self.busy && self.output.is_empty())
    }

    /// Reads and writes what can be, and hands out the next command.
    pub(super) fn serve(&mut self) -> Served {
        self.fill();
        self.flush();
        loop {
            if self.is_gone() {
                return Served::Gone;
            }
            if self.busy || self.closing {
                return Served::Nothing;
            }
            let Some(request) = self.next_request() else { return Served::Nothing };
            self.input.drain(..request.len.min(self.input.len()));
            self.busy = true;
            self.closing = !request.keep_alive;
            match request.command {
                Ok(command) => return Served::Command(Box::new(command)),
                Err((status, detail)) => self.respond(status, &json!({ "error": detail })),
            }
        }
    }

    /// Answers the command that [`serve`](Self::serve) handed out.
    pub(super) fn answer(&mut self, answer: Result<Value, String>) {
        match answer {
            Ok(body) => self.respond(200, &body),
            Err(detail) => self.respond(400, &json!({ "error": detail })),
        }
    }

    fn respond(&mut self, status: u16, body: &Value) {
        let body = body.to_string();
        let reason = if status == 200 { "OK" } else { "Error" };
        let connection = if self.closing { "close" } else { "keep-alive" };
        self.output.extend_from_slice(
            format!(
                "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
                body.len()
            )
            .as_bytes(),
        );
        self.output.extend_from_slice(body.as_bytes());
        self.busy = false;
        self.flush();
    }

    fn fill(&mut self) {
        let mut chunk = [0; 16 * 1024];
        while self.input.len() <= MAX_REQUEST {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.gone = true;
                    return;
                }
                Ok(got) => self.input.extend_from_slice(chunk.get(..got).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }

    fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(taken) => drop(self.output.drain(..taken)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }

    fn next_request(&mut self) -> Option<Request> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        let refuse = |status, detail: &str, len| {
            Some(Request { command: Err((status, detail.to_owned())), keep_alive: false, len })
        };
        let head_len = match head.parse(&self.input) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if self.input.len() > MAX_REQUEST => {
                return refuse(413, "too long", self.input.len());
            }
            Ok(httparse::Status::Partial) => return None,
            Err(error) => return refuse(400, &error.to_string(), self.input.len()),
        };
        let header = |name: &str| {
            head.headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case(name))
                .and_then(|header| std::str::from_utf8(header.value).ok())
        };
        // A page in a browser must not be able to drive the simulator; no tool sends this header.
        if header("origin").is_some() {
            return refuse(403, "not for browsers", self.input.len());
        }
        if header("transfer-encoding").is_some() {
            return refuse(411, "a body needs a content-length", self.input.len());
        }
        let body_len = match header("content-length").map(str::parse::<usize>) {
            None => 0,
            Some(Ok(len)) if len <= MAX_REQUEST => len,
            Some(_) => return refuse(413, "too long", self.input.len()),
        };
        let Some(body) = self.input.get(head_len..head_len + body_len) else {
            if header("expect").is_some() && self.input.len() == head_len {
                self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                self.flush();
            }
            return None;
        };
        let close = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let target = head.path.unwrap_or("/");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let command = Command::parse(head.method.unwrap_or(""), path, query, body).map_err(|error| {
            let status = if error == RouteError::NoSuchRoute { 404 } else { 400 };
            (status, error.to_string())
        });
        Some(Request { command, keep_alive: !close, len: head_len + body_len })
    }
}
