//! The messages' encoding, against prost's.

use proptest::prelude::*;
use prost::Message;
use runner_signal::fuzz::messages;
use runner_signal::wire::MAX_MESSAGE;
use runner_signal::{
    PreKeySignalMessage, PublicKey, SenderKeyDistribution, SenderKeyMessage, SignalMessage, WireError, group,
};

use crate::{pair, send};

#[derive(Clone, PartialEq, Message)]
struct Signal {
    #[prost(bytes, optional, tag = "1")]
    ratchet_key: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "2")]
    counter: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    previous_counter: Option<u32>,
    #[prost(bytes, optional, tag = "4")]
    ciphertext: Option<Vec<u8>>,
    #[prost(fixed64, optional, tag = "9")]
    later: Option<u64>,
    #[prost(string, optional, tag = "500")]
    much_later: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct PreKey {
    #[prost(uint32, optional, tag = "1")]
    pre_key_id: Option<u32>,
    #[prost(bytes, optional, tag = "2")]
    base_key: Option<Vec<u8>>,
    #[prost(bytes, optional, tag = "3")]
    identity_key: Option<Vec<u8>>,
    #[prost(bytes, optional, tag = "4")]
    message: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "5")]
    registration_id: Option<u32>,
    #[prost(uint32, optional, tag = "6")]
    signed_pre_key_id: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct SenderKey {
    #[prost(uint32, optional, tag = "1")]
    id: Option<u32>,
    #[prost(uint32, optional, tag = "2")]
    iteration: Option<u32>,
    #[prost(bytes, optional, tag = "3")]
    ciphertext: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Distribution {
    #[prost(uint32, optional, tag = "1")]
    id: Option<u32>,
    #[prost(uint32, optional, tag = "2")]
    iteration: Option<u32>,
    #[prost(bytes, optional, tag = "3")]
    chain_key: Option<Vec<u8>>,
    #[prost(bytes, optional, tag = "4")]
    signing_key: Option<Vec<u8>>,
}

fn on_the_wire(message: &impl Message, tail: usize) -> Vec<u8> {
    [&[0x33], &message.encode_to_vec()[..], &vec![0xee; tail]].concat()
}

fn typed_key(byte: u8) -> Vec<u8> {
    PublicKey::new([byte; 32]).to_wire().to_vec()
}

fn signal() -> impl Strategy<Value = Signal> {
    let later = (any::<Option<u64>>(), any::<Option<String>>());
    (any::<u8>(), any::<Option<u32>>(), any::<Option<u32>>(), 1..5_usize, later).prop_map(
        |(key, counter, previous_counter, blocks, (later, much_later))| Signal {
            ratchet_key: Some(typed_key(key)),
            counter,
            previous_counter,
            ciphertext: Some(vec![key; 16 * blocks]),
            later,
            much_later,
        },
    )
}

fn check(parsed: &SignalMessage<'_>, message: &Signal) {
    assert_eq!(parsed.ratchet_key.to_wire().as_slice(), message.ratchet_key());
    assert_eq!(parsed.counter, message.counter());
    assert_eq!(parsed.previous_counter, message.previous_counter());
    assert_eq!(parsed.ciphertext, message.ciphertext());
}

proptest! {
    #[test]
    fn a_message_is_read_as_prost_wrote_it(message in signal()) {
        let wire = on_the_wire(&message, 8);
        let parsed = SignalMessage::parse(&wire).unwrap();
        check(&parsed, &message);
        prop_assert_eq!(parsed.mac, [0xee; 8]);
        prop_assert_eq!(parsed.authenticated, &wire[..wire.len() - 8]);
    }

    #[test]
    fn a_first_message_is_read_as_prost_wrote_it(
        inner in signal(), id: Option<u32>, signed: u32, registration: Option<u32>, base: u8, identity: u8,
    ) {
        let message = PreKey {
            pre_key_id: id,
            base_key: Some(typed_key(base)),
            identity_key: Some(typed_key(identity)),
            message: Some(on_the_wire(&inner, 8)),
            registration_id: registration,
            signed_pre_key_id: Some(signed),
        };
        let wire = on_the_wire(&message, 0);
        let parsed = PreKeySignalMessage::parse(&wire).unwrap();
        check(&parsed.message, &inner);
        prop_assert_eq!(parsed.pre_key_id, id);
        prop_assert_eq!(parsed.signed_pre_key_id, signed);
        prop_assert_eq!(parsed.registration_id, registration.unwrap_or(0));
        prop_assert_eq!(parsed.base_key.as_bytes(), &[base; 32]);
        prop_assert_eq!(parsed.identity.as_bytes(), &[identity; 32]);
    }

    #[test]
    fn messages_to_groups_are_read_as_prost_wrote_them(id: u32, iteration: Option<u32>, blocks in 1..4_usize) {
        let message = SenderKey { id: Some(id), iteration, ciphertext: Some(vec![1; 16 * blocks]) };
        let wire = on_the_wire(&message, 64);
        let parsed = SenderKeyMessage::parse(&wire).unwrap();
        prop_assert_eq!((parsed.key_id, parsed.iteration), (id, iteration.unwrap_or(0)));
        prop_assert_eq!(parsed.ciphertext.len(), 16 * blocks);
        let told = Distribution {
            id: Some(id),
            iteration,
            chain_key: Some(vec![4; 32]),
            signing_key: Some(typed_key(9)),
        };
        let wire = on_the_wire(&told, 0);
        let parsed = SenderKeyDistribution::parse(&wire).unwrap();
        prop_assert_eq!((parsed.key_id, parsed.iteration), (id, iteration.unwrap_or(0)));
        prop_assert_eq!(parsed.chain_key, &[4; 32]);
    }

    #[test]
    fn no_bytes_make_reading_a_message_panic(mut data in prop::collection::vec(any::<u8>(), 0..300)) {
        messages(&data);
        if let Some(first) = data.first_mut() {
            *first = 0x33;
        }
        messages(&data);
    }
}

#[test]
fn prost_reads_what_we_write() {
    let (mut a, b) = pair(true);
    let first = send(&mut a, b"x").bytes;
    let outer = PreKey::decode(&first[1..]).unwrap();
    assert_eq!(outer.identity_key(), a.identity.public().to_wire());
    assert_eq!(outer.registration_id, Some(a.identity.registration_id()));
    assert_eq!((outer.pre_key_id, outer.signed_pre_key_id), (Some(1), Some(b.signed.id)));
    let inner = outer.message();
    let inner = Signal::decode(&inner[1..inner.len() - 8]).unwrap();
    // Known receivers want the zeros.
    assert_eq!((inner.counter, inner.previous_counter), (Some(0), Some(0)));

    let own = group::create(&mut |bytes| bytes.fill(200));
    let told = Distribution::decode(&group::distribution(own.as_bytes()).unwrap()[1..]).unwrap();
    assert_eq!(told.iteration, Some(0));
    assert!(told.id() <= 0x7fff_ffff, "some peers hold it as a signed number");
    let sent = group::encrypt(Some(own.as_bytes()), b"x", &mut |bytes| bytes.fill(7)).unwrap().message;
    let message = SenderKey::decode(&sent[1..sent.len() - 64]).unwrap();
    assert_eq!((message.id, message.iteration), (told.id, Some(0)));
}

#[test]
fn what_is_missing_is_named() {
    let complete =
        Signal { ratchet_key: Some(typed_key(1)), ciphertext: Some(vec![1; 16]), ..Signal::default() };
    let parse = |message: &Signal| SignalMessage::parse(&on_the_wire(message, 8)).map(drop);
    assert_eq!(parse(&complete), Ok(()));
    let no_key = Signal { ratchet_key: None, ..complete.clone() };
    assert_eq!(parse(&no_key), Err(WireError::Missing { field: "ratchet key" }));
    let no_content = Signal { ciphertext: None, ..complete.clone() };
    assert_eq!(parse(&no_content), Err(WireError::Missing { field: "ciphertext" }));
    for length in [0, 1, 15, 17] {
        let cut = Signal { ciphertext: Some(vec![1; length]), ..complete.clone() };
        assert_eq!(parse(&cut), Err(WireError::Malformed));
    }
    for key in [vec![], vec![5; 32], [&[4], &[1; 32][..]].concat(), vec![5; 34]] {
        assert_eq!(parse(&Signal { ratchet_key: Some(key), ..complete.clone() }), Err(WireError::Key));
    }
}

#[test]
fn groups_and_repeated_fields_are_read_as_protobuf_says() {
    let complete = Signal {
        ratchet_key: Some(typed_key(1)),
        counter: Some(3),
        ciphertext: Some(vec![1; 16]),
        ..Signal::default()
    };
    let with = |extra: &[u8]| {
        let mut wire = on_the_wire(&complete, 0);
        wire.extend_from_slice(extra);
        wire.extend_from_slice(&[0; 8]);
        SignalMessage::parse(&wire).map(|message| message.counter)
    };
    // Field 20 as a group with a group of field 21 and a number within.
    assert_eq!(with(&[0xa3, 1, 0xab, 1, 0x08, 0x05, 0xac, 1, 0xa4, 1]), Ok(3));
    let crossed = [0xa3, 1, 0xab, 1, 0xa4, 1, 0xac, 1];
    assert_eq!(with(&crossed), Err(WireError::Malformed), "ends that do not match");
    assert_eq!(with(&[0xa3, 1]), Err(WireError::Malformed), "no end");
    assert_eq!(with(&[0xa4, 1]), Err(WireError::Malformed), "an end without a beginning");
    let nested = |depth| [[0xa3, 1].repeat(depth), [0xa4, 1].repeat(depth)].concat();
    assert_eq!(with(&nested(8)), Ok(3));
    assert_eq!(with(&nested(9)), Err(WireError::Malformed), "too deep");
    assert_eq!(with(&[0x10, 9]), Ok(9), "the last one counts");
    assert_eq!(with(&[0x15, 1, 2, 3, 4]), Ok(3), "another wire type is another field");
    assert_eq!(with(&[0x10, 0x80, 0x80, 0x80, 0x80, 0x10]), Err(WireError::Malformed), "2^32");
    assert_eq!(with(&[0x10, 0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
    assert_eq!(with(&[0x16]), Err(WireError::Malformed), "no such wire type");
    assert_eq!(with(&[0x00, 1]), Err(WireError::Malformed), "field 0");
    let unknown = |last| [&[0xa0, 1][..], &[0xff; 9], &[last]].concat();
    assert_eq!(with(&unknown(1)), Ok(3), "64 bits of a field that is not known");
    assert_eq!(with(&unknown(2)), Err(WireError::Malformed), "more than 64 bits");
}

#[test]
fn a_message_may_be_so_long_and_no_longer() {
    let message = |len: usize| {
        let mut wire = vec![0x33];
        wire.resize(len, 0);
        SignalMessage::parse(&wire).map(drop)
    };
    assert_eq!(message(MAX_MESSAGE), Err(WireError::Malformed));
    assert_eq!(message(MAX_MESSAGE + 1), Err(WireError::TooLong { len: MAX_MESSAGE + 1 }));
}
