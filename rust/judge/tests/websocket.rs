//! Our WebSocket against `tungstenite`, both ways round and in memory: the upgrade, messages of every
//! length class, fragments, control frames, the closing.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are part of it")]

use std::io::{Cursor, Read, Write};

use proptest::prelude::*;
use runner_proto::ws::{
    Decoder, Message, Opcode, RequestTarget, Role, UpgradeRequest, UpgradeResponse, parse_request,
    write_close, write_control, write_message, write_switching_protocols,
};
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::protocol::{self, WebSocket};

/// A peer that has said all it will say, and remembers what it was told.
struct Pipe {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Pipe {
    fn new(input: Vec<u8>) -> Self {
        Self { input: Cursor::new(input), output: Vec::new() }
    }
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self.input.read(buf)? {
            0 => Err(std::io::ErrorKind::WouldBlock.into()),
            len => Ok(len),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.output.write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const OURS_TO_THEIRS: [(Role, protocol::Role); 2] =
    [(Role::Client, protocol::Role::Server), (Role::Server, protocol::Role::Client)];

/// A key where our role has to mask.
fn key(role: Role) -> Option<[u8; 4]> {
    (role == Role::Client).then_some([0x0f, 0xf0, 0xa5, 0x5a])
}

/// Everything that our decoder tells of what `wire` says, binary payload joined.
fn decode(role: Role, mut wire: Vec<u8>, chunk: usize) -> (Vec<u8>, Vec<String>) {
    let (mut decoder, mut data, mut others) = (Decoder::new(role), Vec::new(), Vec::new());
    for piece in wire.chunks_mut(chunk.max(1)) {
        let mut input = piece;
        while let Some(message) = decoder.next(&mut input).unwrap() {
            match message {
                Message::Data(bytes) => data.extend_from_slice(bytes),
                other => others.push(format!("{other:?}")),
            }
        }
    }
    (data, others)
}

#[test]
fn tungstenite_reads_what_we_write() {
    for (ours, theirs) in OURS_TO_THEIRS {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let mut wire = Vec::new();
            write_message(&mut wire, Opcode::Binary, &payload, key(ours));
            write_control(&mut wire, Opcode::Ping, b"ping", key(ours));
            write_close(&mut wire, Some((4000, "done")), key(ours));
            let mut socket = WebSocket::from_raw_socket(Pipe::new(wire), theirs, None);
            assert_eq!(socket.read().unwrap(), tungstenite::Message::binary(payload));
            assert_eq!(socket.read().unwrap(), tungstenite::Message::Ping(b"ping".to_vec().into()));
            let tungstenite::Message::Close(Some(CloseFrame { code, reason })) = socket.read().unwrap()
            else {
                panic!("no close frame");
            };
            assert_eq!((u16::from(code), reason.as_str()), (4000, "done"));
        }
    }
}

#[test]
fn we_read_what_tungstenite_writes() {
    for (ours, theirs) in OURS_TO_THEIRS {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let mut socket = WebSocket::from_raw_socket(Pipe::new(Vec::new()), theirs, None);
            socket.send(tungstenite::Message::binary(payload.clone())).unwrap();
            socket.send(tungstenite::Message::text("ignored")).unwrap();
            socket.send(tungstenite::Message::Ping(b"ping".to_vec().into())).unwrap();
            socket.close(Some(CloseFrame { code: 4000.into(), reason: "done".into() })).unwrap();
            let wire = std::mem::take(&mut socket.get_mut().output);
            for chunk in [1, 7, wire.len()] {
                let (data, others) = decode(ours, wire.clone(), chunk);
                assert!(data == payload, "{len} bytes");
                assert_eq!(others, ["Text", "Ping(\"ping\")", "Close(Some(4000), \"done\")"]);
            }
        }
    }
}

#[test]
fn we_read_tungstenites_fragments() {
    for (ours, theirs) in OURS_TO_THEIRS {
        let mut socket = WebSocket::from_raw_socket(Pipe::new(Vec::new()), theirs, None);
        let pieces = [
            (Data::Binary, &b"one "[..], false),
            (Data::Continue, b"two ", false),
            (Data::Continue, b"three", true),
        ];
        for (opcode, payload, is_final) in pieces {
            let frame = Frame::message(payload.to_vec(), OpCode::Data(opcode), is_final);
            socket.send(tungstenite::Message::Frame(frame)).unwrap();
            socket.send(tungstenite::Message::Pong(b"between".to_vec().into())).unwrap();
        }
        let wire = std::mem::take(&mut socket.get_mut().output);
        for chunk in 1..wire.len() {
            let (data, others) = decode(ours, wire.clone(), chunk);
            assert_eq!(data, b"one two three");
            assert_eq!(others, ["Pong(\"between\")"; 3]);
        }
    }
}

#[test]
fn tungstenite_accepts_our_upgrade_and_we_its_answer() {
    let key = [7; 16];
    let request = UpgradeRequest {
        host: "localhost:1",
        path: "/ws/chat",
        origin: "https://web.whatsapp.com",
        key,
        extra: &[],
    };
    let mut wire = Vec::new();
    request.write(&mut wire).unwrap();
    let mut socket = tungstenite::accept(Pipe::new(wire)).unwrap();
    socket.send(tungstenite::Message::binary(b"first".to_vec())).unwrap();

    let mut answer = std::mem::take(&mut socket.get_mut().output);
    let mut input = answer.as_mut_slice();
    assert_eq!(UpgradeResponse::new(key).read(&mut input), Ok(true));
    assert_eq!(decode(Role::Client, input.to_vec(), 100).0, b"first");
}

/// Our server's side of an upgrade: answers the request as soon as it is whole.
struct OurServer {
    request: Vec<u8>,
    answer: Cursor<Vec<u8>>,
}

impl Write for OurServer {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.request.extend_from_slice(buf);
        if let Some(request) = parse_request(&self.request).unwrap() {
            let RequestTarget::WebSocket { accept } = request.target else { panic!("{request:?}") };
            assert_eq!((request.path, request.host), ("/ws/chat", Some("localhost:1")));
            write_switching_protocols(self.answer.get_mut(), &accept);
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Read for OurServer {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.answer.read(buf)
    }
}

#[test]
fn our_server_accepts_tungstenites_upgrade_and_it_our_answer() {
    let server = OurServer { request: Vec::new(), answer: Cursor::new(Vec::new()) };
    let (_, response) = tungstenite::client("ws://localhost:1/ws/chat", server).unwrap();
    assert_eq!(response.status(), 101);
}

/// Pieces of a server's stream, proper and not; put together at random they make and break every rule.
const PIECES: [&[u8]; 14] = [
    b"\x82\x03abc",
    b"\x02\x01d",
    b"\x00\x01e",
    b"\x80\x01f",
    b"\x82\x00",
    b"\x82\x7e\x00\x80",
    b"\x81\x02hi",
    b"\x89\x01p",
    b"\x89\x00",
    b"\x8a\x01q",
    b"\x88\x02\x03\xe8",
    b"\x83\x00",
    b"\xc2\x00",
    b"\x82\x80",
];

proptest! {
    /// Up to where one of the two objects, both hear the same pings; we may object first, as tungstenite
    /// lets some things pass that RFC 6455 forbids.
    #[test]
    fn we_hear_the_pings_that_tungstenite_hears(
        pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..12),
        chunk in 1_usize..20,
    ) {
        let mut wire = pieces.concat();
        let mut socket = WebSocket::from_raw_socket(Pipe::new(wire.clone()), protocol::Role::Client, None);
        let mut theirs = Vec::new();
        while let Ok(message) = socket.read() {
            if let tungstenite::Message::Ping(payload) = message {
                theirs.push(payload.to_vec());
            }
        }
        let (mut decoder, mut ours, mut objected) = (Decoder::new(Role::Client), Vec::new(), false);
        for piece in wire.chunks_mut(chunk) {
            let mut input = piece;
            loop {
                match decoder.next(&mut input) {
                    Ok(Some(Message::Ping(payload))) => ours.push(payload.to_vec()),
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => {
                        objected = true;
                        break;
                    }
                }
            }
            if objected {
                break;
            }
        }
        prop_assert!(theirs.starts_with(&ours), "{:?} {:?}", ours, theirs);
        prop_assert!(objected || ours == theirs, "{:?} {:?}", ours, theirs);
    }
}
