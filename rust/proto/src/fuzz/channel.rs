//! Bodies for the layers under the nodes: frames, WebSocket, handshake, transport.
//!
//! Where a body takes more than one thing, the first byte of the input chooses; what follows is the peer's.

use crate::cert;
use crate::frame::{FrameDecoder, HEADER_LEN, MAX_FRAME};
use crate::noise::{Initiator, KeyPair, NoiseError, TAG_LEN, Transport};
use crate::ws::{self, Decoder, Message, Role, WsError};

/// Any bytes as a stream of frames, cut by the first byte: the cuts do not matter.
pub fn frame_stream(data: &[u8]) {
    let Some((cut, wire)) = data.split_first() else { return };
    let whole = frames(wire, wire.len());
    assert_eq!(whole, frames(wire, usize::from(*cut)), "the same frames however they are cut");
    let taken: usize = whole.iter().map(|frame| HEADER_LEN + frame.len()).sum();
    assert!(taken <= wire.len() && whole.iter().all(|frame| frame.len() <= MAX_FRAME));
}

/// The frames before the first error, with the stream in pieces of `len` bytes.
fn frames(wire: &[u8], len: usize) -> Vec<Vec<u8>> {
    let (mut decoder, mut found) = (FrameDecoder::new(), Vec::new());
    let mut wire = wire.to_vec();
    for piece in wire.chunks_mut(len.max(1)) {
        let mut input = piece;
        loop {
            match decoder.next(&mut input) {
                Ok(Some(frame)) => found.push(frame.to_vec()),
                Ok(None) => break,
                Err(_) => return found,
            }
        }
        assert!(input.is_empty());
    }
    found
}

/// Any bytes as what a WebSocket peer sends, for both roles: the cuts do not matter, and the HTTP heads
/// in front of it are either refused or no longer than the input.
pub fn ws_stream(data: &[u8]) {
    let Some((cut, wire)) = data.split_first() else { return };
    for role in [Role::Client, Role::Server] {
        assert_eq!(told(role, wire, wire.len()), told(role, wire, usize::from(*cut)));
    }
    if let Ok(Some(len)) = ws::parse_response(wire, &[0; 16]) {
        assert!(len <= wire.len());
    }
    if let Ok(Some(request)) = ws::parse_request(wire) {
        assert!(request.len <= wire.len());
    }
}

/// All data, the number of other messages, and the error, with the stream in pieces of `len` bytes.
fn told(role: Role, wire: &[u8], len: usize) -> (Vec<u8>, usize, Option<WsError>) {
    let (mut decoder, mut data, mut others) = (Decoder::new(role), Vec::new(), 0);
    let mut wire = wire.to_vec();
    for piece in wire.chunks_mut(len.max(1)) {
        let mut input = piece;
        loop {
            match decoder.next(&mut input) {
                Ok(Some(Message::Data(bytes))) => data.extend_from_slice(bytes),
                Ok(Some(_)) => others += 1,
                Ok(None) => break,
                Err(error) => return (data, others, Some(error)),
            }
        }
        assert!(input.is_empty());
    }
    (data, others, None)
}

/// Any bytes as the server's hello, after an XX or an IK hello by the first byte: never a channel.
pub fn noise_handshake(data: &[u8]) {
    let Some((asked, message)) = data.split_first() else { return };
    let pair = |byte| KeyPair::from_secret([byte; 32]);
    let (client, server) = (pair(3), pair(4));
    let begun = if asked & 1 == 0 {
        Ok(Initiator::xx(pair(1)))
    } else {
        Initiator::ik(pair(1), &client, server.public(), b"payload")
    };
    let Ok((initiator, _)) = begun else { return };
    let end = initiator.read_server_hello(message, &client, b"payload", pair(5).public(), 0);
    assert!(matches!(end, Err(NoiseError::Handshake(_) | NoiseError::Certificate(_))));
    assert!(cert::verify(message, pair(5).public(), server.public(), 0).is_err());
}

/// Any bytes as a text to seal, then bent by one bit and opened: the text comes back, the bent one does not.
pub fn noise_transport(data: &[u8]) {
    let Some((bit, text)) = data.split_first() else { return };
    let (mut sender, mut receiver) = (Transport::new([1; 32], [2; 32]), Transport::new([2; 32], [1; 32]));
    let mut garbage = text.to_vec();
    assert!(receiver.open(&mut garbage).is_err(), "nobody sealed this");

    let mut sealed = text.to_vec();
    assert_eq!(sender.seal(&mut sealed, 0), Ok(()));
    assert_eq!(sealed.len(), text.len() + TAG_LEN);
    let mut bent = sealed.clone();
    let at = usize::from(*bit) % (sealed.len() * 8);
    if let Some(byte) = bent.get_mut(at / 8) {
        *byte ^= 1 << (at % 8);
    }
    assert_eq!(receiver.open(&mut bent), Err(NoiseError::Open));
    assert!(receiver.open(&mut sealed).is_ok_and(|plain| plain == text));
}
