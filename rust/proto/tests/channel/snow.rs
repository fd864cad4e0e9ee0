//! Our initiator against the responder of `snow`, a Noise implementation that is not ours.
//!
//! snow concatenates the parts of a message as the Noise framework says, WhatsApp puts them into protobuf
//! fields: the tests take them apart and put them together. snow's nonce is 4 zero bytes and a 64-bit
//! counter, big-endian for AESGCM, which is WhatsApp's 8 zero bytes and 32-bit counter.
//!
//! One true difference shows here: the framework hashes the payload of every message, also the empty one
//! of the XX hello, and WhatsApp does not (docs/protocol.md, "Noise"). snow is given a hash that
//! leaves its value alone when nothing is mixed in.

use prost::Message;
use runner_proto::frame::PROLOGUE;
use runner_proto::handshake::{HandshakeMessage, ServerHello};
use runner_proto::noise::{Established, Initiator, Pattern, Transport};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, TransportState};

use crate::responder::{Chain, NOW, client_hello, encode, pair};

const PAYLOAD: &[u8] = b"who logs in";

/// snow's own primitives, but for the hash.
struct WhatsAppDialect;

impl CryptoResolver for WhatsAppDialect {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        DefaultResolver.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        let inner = DefaultResolver.resolve_hash(choice)?;
        Some(Box::new(SkipsEmpty { inner, seen: Vec::new() }))
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// SHA-256, except that the hash of a hash and nothing else is that hash. Only mixing in an empty part
/// asks for one: HMAC's inputs are longer.
struct SkipsEmpty {
    inner: Box<dyn Hash>,
    seen: Vec<u8>,
}

impl Hash for SkipsEmpty {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn block_len(&self) -> usize {
        self.inner.block_len()
    }

    fn hash_len(&self) -> usize {
        self.inner.hash_len()
    }

    fn reset(&mut self) {
        self.inner.reset();
        self.seen.clear();
    }

    fn input(&mut self, data: &[u8]) {
        self.inner.input(data);
        self.seen.extend_from_slice(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        self.inner.result(out);
        if self.seen.len() == self.hash_len() {
            out[..self.seen.len()].copy_from_slice(&self.seen);
        }
    }
}

fn snow_responder(pattern: Pattern) -> HandshakeState {
    Builder::with_resolver(pattern.name().parse().unwrap(), Box::new(WhatsAppDialect))
        .prologue(&PROLOGUE)
        .unwrap()
        .local_private_key(pair(0x51).secret())
        .unwrap()
        .build_responder()
        .unwrap()
}

fn write(state: &mut HandshakeState, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 4096];
    let len = state.write_message(payload, &mut message).unwrap();
    message.truncate(len);
    message
}

fn read(state: &mut HandshakeState, message: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; 4096];
    let len = state.read_message(message, &mut payload).unwrap();
    payload.truncate(len);
    payload
}

fn finish(initiator: Initiator, answer: ServerHello) -> Established {
    let root = *Chain::new(&pair(0x51)).root.public();
    initiator.read_server_hello(&encode(answer), &pair(0x61), PAYLOAD, &root, NOW).unwrap()
}

fn assert_talk(ours: &mut Transport, theirs: &mut TransportState) {
    for round in 0..300_usize {
        let text = vec![round as u8; round];
        let (mut frame, mut plain) = (text.clone(), vec![0; 1024]);
        ours.seal(&mut frame, 0).unwrap();
        let len = theirs.read_message(&frame, &mut plain).unwrap();
        assert_eq!(&plain[..len], text);
        let mut frame = vec![0; 1024];
        let len = theirs.write_message(&text, &mut frame).unwrap();
        assert_eq!(ours.open(&mut frame[..len]).unwrap(), text);
    }
}

#[test]
fn xx_meets_snow() {
    let mut theirs = snow_responder(Pattern::Xx);
    let (initiator, hello) = Initiator::xx(pair(0x62));
    assert_eq!(read(&mut theirs, &client_hello(&hello).ephemeral.unwrap()), b"");

    let answer = write(&mut theirs, &Chain::new(&pair(0x51)).encode());
    let established = finish(
        initiator,
        ServerHello {
            ephemeral: Some(answer[..32].to_vec()),
            r#static: Some(answer[32..80].to_vec()),
            payload: Some(answer[80..].to_vec()),
        },
    );
    let finish = HandshakeMessage::decode(established.finish.unwrap().as_slice()).unwrap();
    let finish = finish.client_finish.unwrap();
    let message = [finish.r#static.unwrap(), finish.payload.unwrap()].concat();
    assert_eq!(read(&mut theirs, &message), PAYLOAD);
    assert_eq!(theirs.get_remote_static(), Some(&pair(0x61).public()[..]));

    let mut ours = established.transport;
    assert_talk(&mut ours, &mut theirs.into_transport_mode().unwrap());
}

#[test]
fn ik_meets_snow() {
    let mut theirs = snow_responder(Pattern::Ik);
    let (initiator, hello) = Initiator::ik(pair(0x62), &pair(0x61), pair(0x51).public(), PAYLOAD).unwrap();
    let hello = client_hello(&hello);
    let message = [hello.ephemeral.unwrap(), hello.r#static.unwrap(), hello.payload.unwrap()].concat();
    assert_eq!(read(&mut theirs, &message), PAYLOAD);
    assert_eq!(theirs.get_remote_static(), Some(&pair(0x61).public()[..]));

    let answer = write(&mut theirs, b"certificates, unread");
    let established = finish(
        initiator,
        ServerHello {
            ephemeral: Some(answer[..32].to_vec()),
            r#static: None,
            payload: Some(answer[32..].to_vec()),
        },
    );
    assert_eq!(established.pattern, Pattern::Ik);
    let mut ours = established.transport;
    assert_talk(&mut ours, &mut theirs.into_transport_mode().unwrap());
}
