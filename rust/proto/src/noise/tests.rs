//! The transcript vector of docs/protocol.md, "Noise": every value, from both sides.

use prost::Message;

use super::initiator::Context;
use super::{Initiator, KeyPair, Pattern, Role, SymmetricState, Transport, dh};
use crate::cert::VerifiedChain;
use crate::handshake::{HandshakeMessage, ServerHello};

const CHAIN: &[u8] = b"CERT";
const PAYLOAD: &[u8] = b"PAYLOAD";

const E_C_PUBLIC: &str = "a4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a209";
const E_S_PUBLIC: &str = "ce8d3ad1ccb633ec7b70c17814a5c76ecd029685050d344745ba05870e587d59";
const CLIENT_PUBLIC: &str = "5dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9df1c6e0124b3ef22";
const SERVER_PUBLIC: &str = "ac01b2209e86354fb853237b5de0f4fab13c7fcbf433a61c019369617fecf10b";
const H_PROLOGUE: &str = "ffff0c9267310966f1311170c04b38c79504285bf5edf763e5c946492a50a755";
const H_E_C: &str = "0019031be1b0506972e4f4e2cb9de0dec5350cb635a4e6b4eea81a50f20d0f11";
const K_EE: &str = "62d0e649b3420bff55cb348590bb5f3b4bbd90a369822a82c891d9249b18146e";
const C1: &str =
    "0c8801413d6032cab2f5eb2012b567b83385c89c224a0b81b0deaf82f4840d5943350d55009c56b42bbc94c92c253d9d";
const C2: &str = "5f4eed204a19f4ff1acbe2abe1f2494700115002";
const C3: &str =
    "9921f771539dc5c1f21ed8b3a945d487a8855eb41b0fd20bb2c16cf1e8c136cc89be20a17c663a9d9c0e7b0e3726a423";
const C4: &str = "6ccfd31838b6deac69633fd5e6c27de3333c976c11534d";
const H_FINAL: &str = "73d09cb34837b869c1f7ef04ed184e1cc30c9ce4bd1fd82733ce37701e7fd045";
const FROM_CLIENT: &str = "a2b4496d3f33768c949d63408190b8e8ee1acc1322662f9f370d13268d1d8e15";
const FROM_SERVER: &str = "13ce07bbcfc4d8ba533b9475cc5df38547b5457f7ee951913edcfc584df9460e";

/// The first client frame's payload, and below what it says: flag 0, then
/// `<iq id=1.2-3 xmlns=w:p type=get to=S/>` (8 attribute strings and the tag, no content).
const FIRST_FRAME: &str = "ecbf8dd0390fb32f5726fdd443729a91f242208c9f4db655d46f385011ae669c2aca";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn key(hex: &str) -> [u8; 32] {
    unhex(hex).try_into().unwrap()
}

fn pair(byte: u8) -> KeyPair {
    KeyPair::from_secret([byte; 32])
}

#[test]
fn public_keys_are_those_of_the_vector() {
    for (byte, public) in [(1, E_C_PUBLIC), (2, E_S_PUBLIC), (3, CLIENT_PUBLIC), (4, SERVER_PUBLIC)] {
        assert_eq!(hex(pair(byte).public()), public);
    }
}

#[test]
fn every_step_of_a_responder_is_that_of_the_vector() {
    let (e_s, server) = (pair(2), pair(4));
    let (e_c_public, client_public) = (key(E_C_PUBLIC), key(CLIENT_PUBLIC));

    let mut state = SymmetricState::new(Pattern::Xx);
    assert_eq!(hex(state.hash()), H_PROLOGUE);
    state.mix_hash(&e_c_public);
    assert_eq!(hex(state.hash()), H_E_C);
    state.mix_hash(e_s.public());
    state.mix_key(&dh(&e_s, &e_c_public).unwrap());
    assert_eq!(hex(state.key()), K_EE);
    assert_eq!(hex(&state.encrypt_and_hash(server.public()).unwrap()), C1);
    state.mix_key(&dh(&server, &e_c_public).unwrap());
    assert_eq!(hex(&state.encrypt_and_hash(CHAIN).unwrap()), C2);
    assert_eq!(state.decrypt_and_hash(&unhex(C3)).unwrap(), client_public);
    state.mix_key(&dh(&e_s, &client_public).unwrap());
    assert_eq!(state.decrypt_and_hash(&unhex(C4)).unwrap(), PAYLOAD);
    assert_eq!(hex(state.hash()), H_FINAL);

    assert_directions(state.split(Role::Responder), FROM_SERVER, FROM_CLIENT);
}

#[test]
fn the_initiator_says_what_the_vector_says() {
    let (initiator, hello) = Initiator::xx(pair(1));
    assert_eq!(hex(&hello), format!("12220a20{E_C_PUBLIC}"));

    let answer = HandshakeMessage {
        server_hello: Some(ServerHello {
            ephemeral: Some(unhex(E_S_PUBLIC)),
            r#static: Some(unhex(C1)),
            payload: Some(unhex(C2)),
        }),
        ..HandshakeMessage::default()
    };
    let verify = |chain: &[u8], server: &[u8; 32]| {
        assert_eq!((chain, hex(server).as_str()), (CHAIN, SERVER_PUBLIC));
        Ok(VerifiedChain { leaf_key: *server, not_before: 0, not_after: 1, raw: chain.to_vec() })
    };
    let context = Context { client: &pair(3), payload: PAYLOAD, verify: &verify };
    let established = initiator.read(&answer.encode_to_vec(), &context).unwrap();

    assert_eq!(established.pattern, Pattern::Xx);
    let finish = HandshakeMessage::decode(established.finish.unwrap().as_slice()).unwrap();
    let finish = finish.client_finish.unwrap();
    assert_eq!(hex(&finish.r#static.unwrap()), C3);
    assert_eq!(hex(&finish.payload.unwrap()), C4);

    assert_directions(established.transport, FROM_CLIENT, FROM_SERVER);
}

#[test]
fn the_first_client_frame_is_that_of_the_vector() {
    let mut server = Transport::new([0; 32], key(FROM_CLIENT));
    let mut frame = unhex(FIRST_FRAME);
    let mut plain = server.open(&mut frame).unwrap().to_vec();
    assert_eq!(plain.len(), 0x22 - Transport::OVERHEAD);
    assert_eq!(&plain[..2], [0, 0xf8], "flag, then a short list");

    let mut client = Transport::new(key(FROM_CLIENT), [0; 32]);
    client.seal(&mut plain, 0).unwrap();
    assert_eq!(hex(&plain), FIRST_FRAME);
}

/// Fails unless `transport` sends under the one key and receives under the other.
fn assert_directions(mut transport: Transport, sends: &str, receives: &str) {
    let mut peer = Transport::new(key(receives), key(sends));
    for text in [&b"one"[..], b"two"] {
        let mut frame = text.to_vec();
        transport.seal(&mut frame, 0).unwrap();
        assert_eq!(peer.open(&mut frame).unwrap(), text);
        let mut frame = text.to_vec();
        peer.seal(&mut frame, 0).unwrap();
        assert_eq!(transport.open(&mut frame).unwrap(), text);
    }
}

#[test]
fn nonces_end_before_they_wrap() {
    let mut sender = Transport::new([1; 32], [2; 32]);
    let mut receiver = Transport::new([2; 32], [1; 32]);
    for transport in [&mut sender, &mut receiver] {
        transport.set_counters(u32::MAX - 1);
    }

    let mut last = b"last".to_vec();
    sender.seal(&mut last, 0).unwrap();
    assert_eq!(receiver.open(&mut last.clone()).unwrap(), b"last");

    let mut late = b"late".to_vec();
    for _ in 0..2 {
        assert_eq!(sender.seal(&mut late, 0), Err(super::NoiseError::NonceExhausted));
        assert_eq!(late, b"late", "neither encrypted nor longer");
        assert_eq!(receiver.open(&mut last), Err(super::NoiseError::NonceExhausted));
    }
}

#[test]
fn handshake_nonces_end_before_they_wrap() {
    let mut state = SymmetricState::new(Pattern::Xx);
    state.set_counter(u32::MAX - 1);
    state.encrypt_and_hash(b"last").unwrap();
    assert_eq!(state.encrypt_and_hash(b"late"), Err(super::NoiseError::NonceExhausted));
    assert_eq!(state.decrypt_and_hash(&[0; 20]), Err(super::NoiseError::NonceExhausted));
    state.mix_key(&[1; 32]);
    state.encrypt_and_hash(b"a new key starts anew").unwrap();
}
