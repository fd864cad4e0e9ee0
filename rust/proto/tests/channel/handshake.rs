//! XX, IK and XXfallback against a server of the same kind, and every way to spoil a message.

use proptest::prelude::*;
use runner_proto::cert::{CachedServerKey, CertError, VerifiedChain};
use runner_proto::handshake::ServerHello;
use runner_proto::noise::{Established, HandshakeError, Initiator, KeyPair, NoiseError, Pattern, Transport};

use crate::responder::{Chain, NOW, Responder, encode, pair};

const PAYLOAD: &[u8] = b"who logs in";

fn client() -> KeyPair {
    pair(0x61)
}

fn root() -> [u8; 32] {
    *Chain::new(&pair(0)).root.public()
}

fn xx() -> (Initiator, Vec<u8>) {
    Initiator::xx(pair(0x62))
}

fn ik(server_key: &[u8; 32]) -> (Initiator, Vec<u8>) {
    Initiator::ik(pair(0x62), &client(), server_key, PAYLOAD).unwrap()
}

fn read(initiator: Initiator, message: &[u8]) -> Result<Established, NoiseError> {
    initiator.read_server_hello(message, &client(), PAYLOAD, &root(), NOW)
}

fn assert_talk(client: &mut Transport, server: &mut Transport) {
    for round in 0..3_u8 {
        let mut frame = vec![round; 20];
        client.seal(&mut frame, 0).unwrap();
        assert_eq!(server.open(&mut frame).unwrap(), [round; 20]);
        let mut frame = vec![round; 30];
        server.seal(&mut frame, 0).unwrap();
        assert_eq!(client.open(&mut frame).unwrap(), [round; 30]);
    }
}

#[test]
fn xx_ends_with_a_channel_and_a_verified_chain() {
    let server = Responder::new();
    let (initiator, hello) = xx();
    assert_eq!((hello.len(), &hello[..4]), (36, &[0x12, 0x22, 0x0a, 0x20][..]));
    assert_eq!(initiator.asked(), Pattern::Xx);
    let (answer, awaits_finish) = server.answer_xx(Pattern::Xx, &hello);
    let mut established = read(initiator, &encode(answer)).unwrap();

    let mut accepted = awaits_finish.read(&established.finish.unwrap());
    assert_eq!(accepted.client, client().public());
    assert_eq!(accepted.payload, PAYLOAD);
    assert_eq!(established.pattern, Pattern::Xx);
    let chain = established.chain.unwrap();
    assert_eq!(
        chain,
        VerifiedChain {
            leaf_key: *server.key.public(),
            not_before: NOW - 86_400,
            not_after: NOW + 86_400,
            raw: server.chain.clone()
        }
    );
    assert_talk(&mut established.transport, &mut accepted.transport);
}

#[test]
fn ik_ends_with_a_channel_after_one_flight() {
    let server = Responder::new();
    let (initiator, hello) = ik(server.key.public());
    assert_eq!(initiator.asked(), Pattern::Ik);
    let (answer, mut accepted) = server.answer_ik(&hello);
    assert_eq!(accepted.client, client().public());
    assert_eq!(accepted.payload, PAYLOAD);

    let mut established = read(initiator, &encode(answer)).unwrap();
    assert_eq!(established.pattern, Pattern::Ik);
    assert_eq!(established.finish, None);
    assert_eq!(established.chain, None);
    assert_talk(&mut established.transport, &mut accepted.transport);
}

#[test]
fn a_refused_ik_falls_back_to_xx_with_the_ephemeral_already_sent() {
    let mut server = Responder::new();
    let old_key = *server.key.public();
    server.key = pair(0x71);
    server.chain = Chain::new(&server.key).encode();
    let (initiator, hello) = ik(&old_key);
    let (answer, awaits_finish) = server.answer_xx(Pattern::XxFallback, &hello);
    let mut established = read(initiator, &encode(answer)).unwrap();

    assert_eq!(established.pattern, Pattern::XxFallback);
    let mut accepted = awaits_finish.read(&established.finish.unwrap());
    assert_eq!(accepted.client, client().public());
    assert_eq!(accepted.payload, PAYLOAD);
    assert_eq!(established.chain.unwrap().leaf_key, *server.key.public());
    assert_talk(&mut established.transport, &mut accepted.transport);
}

#[test]
fn a_server_that_takes_an_ik_hello_for_xx_ends_it_as_a_handshake_error() {
    let server = Responder::new();
    let (initiator, hello) = ik(server.key.public());
    let (answer, _) = server.answer_xx(Pattern::Xx, &hello);
    let error = read(initiator, &encode(answer)).unwrap_err();
    assert_eq!(error, NoiseError::Handshake(HandshakeError::StaticTag));
}

#[test]
fn a_server_without_the_cached_key_cannot_accept_ik() {
    let (server, mut other) = (Responder::new(), Responder::new());
    other.key = pair(0x72);
    let (initiator, _) = ik(server.key.public());
    let (_, hello_to_other) = ik(other.key.public());
    let (answer, _) = other.answer_ik(&hello_to_other);
    let error = read(initiator, &encode(answer)).unwrap_err();
    assert_eq!(error, NoiseError::Handshake(HandshakeError::PayloadTag));
}

#[test]
fn an_answer_to_xx_without_a_static_key_is_refused() {
    let server = Responder::new();
    let (initiator, hello) = xx();
    let (answer, _) = server.answer_xx(Pattern::Xx, &hello);
    let error = read(initiator, &encode(ServerHello { r#static: None, ..answer })).unwrap_err();
    assert_eq!(error, NoiseError::Handshake(HandshakeError::StaticMissing));
}

#[test]
fn an_untrusted_server_is_a_certificate_error() {
    let server = Responder::new();
    let (initiator, hello) = xx();
    let (answer, _) = server.answer_xx(Pattern::Xx, &hello);
    let error =
        initiator.read_server_hello(&encode(answer), &client(), PAYLOAD, pair(1).public(), NOW).unwrap_err();
    assert!(matches!(error, NoiseError::Certificate(CertError::Signature(_))), "{error}");
}

#[test]
fn a_fallback_does_not_excuse_an_untrusted_server() {
    let mut server = Responder::new();
    server.chain = Chain::new(&pair(0x73)).encode();
    let (initiator, hello) = ik(server.key.public());
    let (answer, _) = server.answer_xx(Pattern::XxFallback, &hello);
    let error = read(initiator, &encode(answer)).unwrap_err();
    assert_eq!(error, NoiseError::Certificate(CertError::WrongKey));
}

/// Runs `spoil` over the answer to an XX hello and returns the error.
fn spoiled(spoil: impl FnOnce(&mut ServerHello)) -> NoiseError {
    let server = Responder::new();
    let (initiator, hello) = xx();
    let (mut answer, _) = server.answer_xx(Pattern::Xx, &hello);
    spoil(&mut answer);
    read(initiator, &encode(answer)).unwrap_err()
}

#[test]
fn each_field_of_the_answer_is_checked() {
    type Spoil = fn(&mut ServerHello);
    let cases: [(HandshakeError, Spoil); 9] = [
        (HandshakeError::EphemeralLength, |answer| answer.ephemeral = None),
        (HandshakeError::EphemeralLength, |answer| answer.ephemeral = Some(vec![9; 31])),
        (HandshakeError::EphemeralLength, |answer| answer.ephemeral = Some(vec![9; 33])),
        (HandshakeError::StaticLength, |answer| answer.r#static = Some(vec![9; 47])),
        (HandshakeError::StaticLength, |answer| answer.r#static = Some(Vec::new())),
        (HandshakeError::PayloadMissing, |answer| answer.payload = None),
        (HandshakeError::StaticTag, |answer| answer.r#static.as_mut().unwrap()[3] ^= 1),
        (HandshakeError::PayloadTag, |answer| answer.payload.as_mut().unwrap()[3] ^= 1),
        (HandshakeError::PayloadTag, |answer| answer.payload = Some(vec![1; 15])),
    ];
    for (expected, spoil) in cases {
        assert_eq!(spoiled(spoil), NoiseError::Handshake(expected));
    }
}

#[test]
fn a_key_of_small_order_is_refused_from_the_server_and_from_the_cache() {
    let mut one = [0; 32];
    one[0] = 1;
    for weak in [[0; 32], one] {
        assert_eq!(
            spoiled(|answer| answer.ephemeral = Some(weak.to_vec())),
            NoiseError::Handshake(HandshakeError::WeakKey)
        );
        let error = Initiator::ik(pair(0x62), &client(), &weak, PAYLOAD).unwrap_err();
        assert_eq!(error, NoiseError::Handshake(HandshakeError::CachedKey));
    }
}

#[test]
fn another_message_than_a_server_hello_is_refused() {
    let (initiator, hello) = xx();
    assert_eq!(read(initiator, &hello).unwrap_err(), NoiseError::Handshake(HandshakeError::NotServerHello));
    assert_eq!(read(xx().0, &[]).unwrap_err(), NoiseError::Handshake(HandshakeError::NotServerHello));
    assert_eq!(read(xx().0, b"HTTP").unwrap_err(), NoiseError::Handshake(HandshakeError::Malformed));
}

#[test]
fn an_answer_cut_at_any_byte_is_refused() {
    let server = Responder::new();
    let (_, hello) = xx();
    let answer = encode(server.answer_xx(Pattern::Xx, &hello).0);
    for len in 0..answer.len() {
        assert!(matches!(read(xx().0, &answer[..len]).unwrap_err(), NoiseError::Handshake(_)), "{len}");
    }
    let (_, hello) = ik(server.key.public());
    let answer = encode(server.answer_ik(&hello).0);
    for len in 0..answer.len() {
        let (initiator, _) = ik(server.key.public());
        assert!(matches!(read(initiator, &answer[..len]).unwrap_err(), NoiseError::Handshake(_)), "{len}");
    }
}

#[test]
fn a_bit_flipped_anywhere_in_the_answer_is_noticed() {
    let server = Responder::new();
    let (_, hello) = xx();
    let (answer, _) = server.answer_xx(Pattern::Xx, &hello);
    let answer = encode(answer);
    for at in 0..answer.len() {
        let mut other = answer.clone();
        other[at] ^= 1 << (at % 8);
        assert!(read(xx().0, &other).is_err(), "byte {at}");
    }
}

#[test]
fn unknown_fields_of_a_newer_server_are_skipped() {
    let server = Responder::new();
    let (initiator, hello) = xx();
    let (answer, _) = server.answer_xx(Pattern::Xx, &hello);
    let mut message = encode(answer);
    message.extend_from_slice(&[0x82, 0x08, 0x03, 1, 2, 3]); // field 128, three bytes
    read(initiator, &message).unwrap();
}

#[test]
fn a_cached_key_is_usable_inside_its_window_only() {
    let cached = CachedServerKey { key: [1; 32], not_before: 10, not_after: 20 };
    let usable: Vec<u64> = (0..30).filter(|now| cached.is_usable(*now)).collect();
    assert_eq!(usable, (10..20).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn garbage_is_an_error_for_both_hellos(garbage: Vec<u8>) {
        prop_assert!(read(xx().0, &garbage).is_err());
        prop_assert!(read(ik(pair(1).public()).0, &garbage).is_err());
    }

    #[test]
    fn garbage_in_well_formed_fields_is_an_error(
        ephemeral in proptest::option::of(proptest::collection::vec(any::<u8>(), 30..34)),
        r#static in proptest::option::of(proptest::collection::vec(any::<u8>(), 47..50)),
        payload in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4000)),
    ) {
        let message = encode(ServerHello { ephemeral, r#static, payload });
        prop_assert!(read(xx().0, &message).is_err());
        prop_assert!(read(ik(pair(1).public()).0, &message).is_err());
    }
}
