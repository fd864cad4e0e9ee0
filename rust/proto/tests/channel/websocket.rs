//! WebSocket frames: the examples of RFC 6455, every rule, every cut.

use proptest::prelude::*;
use runner_proto::ws::{
    ControlPayload, Decoder, HEADER_ROOM, Header, MAX_MESSAGE, Message, Opcode, Role, WsError, close_code,
    finish_message, mask, write_close, write_control, write_message, write_pong,
};

/// What a decoder told, with neighbouring pieces of data joined.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Data(Vec<u8>),
    Text,
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

fn decode<'p>(role: Role, pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<Vec<Told>, WsError> {
    let mut decoder = Decoder::new(role);
    let mut told = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = piece.as_mut_slice();
        while let Some(message) = decoder.next(&mut input)? {
            match (message, told.last_mut()) {
                (Message::Data(bytes), Some(Told::Data(data))) => data.extend_from_slice(bytes),
                (Message::Data(bytes), _) => told.push(Told::Data(bytes.to_vec())),
                (Message::Text, _) => told.push(Told::Text),
                (Message::Ping(payload), _) => told.push(Told::Ping(payload.to_vec())),
                (Message::Pong(payload), _) => told.push(Told::Pong(payload.to_vec())),
                (Message::Close(code, reason), _) => {
                    told.push(Told::Close(code, String::from_utf8(reason.to_vec()).unwrap()));
                }
            }
        }
        assert!(input.is_empty());
    }
    Ok(told)
}

fn client(bytes: &[u8]) -> Result<Vec<Told>, WsError> {
    decode(Role::Client, [bytes])
}

fn data(bytes: &[u8]) -> Told {
    Told::Data(bytes.to_vec())
}

// The examples of RFC 6455 §5.7, those of text as binary where the payload is looked at.

#[test]
fn the_examples_of_the_rfc_are_understood() {
    assert_eq!(client(&[0x81, 5, b'H', b'e', b'l', b'l', b'o']), Ok(vec![Told::Text]));
    assert_eq!(client(&[0x82, 5, b'H', b'e', b'l', b'l', b'o']), Ok(vec![data(b"Hello")]));
    let masked = [0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decode(Role::Server, [&masked[..]]), Ok(vec![data(b"Hello")]));
    let fragmented = [0x02, 3, b'H', b'e', b'l', 0x80, 2, b'l', b'o'];
    assert_eq!(client(&fragmented), Ok(vec![data(b"Hello")]));
    assert_eq!(client(b"\x89\x05Hello"), Ok(vec![Told::Ping(b"Hello".to_vec())]));
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decode(Role::Server, [&pong[..]]), Ok(vec![Told::Pong(b"Hello".to_vec())]));
    for (header, len) in [(&[0x82, 0x7e, 1, 0][..], 256), (&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0], 65_536)] {
        let wire = [header, &vec![0x5a; len]].concat();
        assert_eq!(client(&wire), Ok(vec![data(&vec![0x5a; len])]));
    }
}

#[test]
fn the_examples_of_the_rfc_are_written() {
    let written = |opcode, payload: &[u8], key| {
        let mut out = Vec::new();
        write_message(&mut out, opcode, payload, key);
        out
    };
    assert_eq!(written(Opcode::Text, b"Hello", None), b"\x81\x05Hello");
    let key = Some([0x37, 0xfa, 0x21, 0x3d]);
    assert_eq!(
        written(Opcode::Text, b"Hello", key),
        [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]
    );
    assert_eq!(&*Header::new(Opcode::Binary, 256, None), [0x82, 0x7e, 1, 0]);
    assert_eq!(&*Header::new(Opcode::Binary, 65_536, None), [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
}

/// Everything at once: a message in fragments with a ping inside, then text, a pong and a close.
fn everything(role: Role) -> Vec<u8> {
    let key = (role == Role::Server).then_some([0xa1, 0xb2, 0xc3, 0xd4]);
    let fragment = |first: u8, payload: &[u8]| {
        let mut out = Vec::new();
        write_message(&mut out, Opcode::Binary, payload, key);
        out[0] = first;
        out
    };
    let mut wire = [
        fragment(0x02, b"one "),
        fragment(0x89, b"ping"),
        fragment(0x00, b""),
        fragment(0x00, b"two "),
        fragment(0x80, &[b'3'; 130]),
        fragment(0x82, b""),
        fragment(0x01, b"te"),
        fragment(0x80, b"xt"),
        fragment(0x82, b"last"),
        fragment(0x8a, b""),
    ]
    .concat();
    write_close(&mut wire, Some((4000, "bye")), key);
    wire
}

fn everything_told() -> Vec<Told> {
    vec![
        data(b"one "),
        Told::Ping(b"ping".to_vec()),
        data(&[&b"two "[..], &[b'3'; 130]].concat()),
        Told::Text,
        data(b"last"),
        Told::Pong(Vec::new()),
        Told::Close(Some(4000), "bye".to_owned()),
    ]
}

#[test]
fn any_chunking_tells_the_same() {
    for role in [Role::Client, Role::Server] {
        let wire = everything(role);
        for chunk in 1..=wire.len() {
            assert_eq!(decode(role, wire.chunks(chunk)), Ok(everything_told()), "{role:?}, chunk of {chunk}");
        }
        for cut in 0..=wire.len() {
            let pieces = [&wire[..cut], &wire[cut..]];
            assert_eq!(decode(role, pieces), Ok(everything_told()), "{role:?}, cut at {cut}");
        }
    }
}

#[test]
fn a_truncated_stream_tells_a_beginning_of_the_whole() {
    let whole = everything_told();
    let wire = everything(Role::Client);
    for len in 0..wire.len() {
        let told = client(&wire[..len]).unwrap();
        assert!(told.len() <= whole.len());
        for (told, whole) in told.iter().zip(&whole) {
            match (told, whole) {
                (Told::Data(told), Told::Data(whole)) => assert!(whole.starts_with(told)),
                (told, whole) => assert_eq!(told, whole),
            }
        }
        assert!(!matches!(told.last(), Some(Told::Close(..))), "not before its last byte");
    }
}

#[test]
fn each_rule_is_enforced() {
    let cases: [(WsError, &[u8]); 21] = [
        (WsError::ReservedBits, &[0xc2, 0]),
        (WsError::ReservedBits, &[0xa2, 0]),
        (WsError::ReservedBits, &[0x92, 0]),
        (WsError::ReservedOpcode(0x3), &[0x83, 0]),
        (WsError::ReservedOpcode(0x7), &[0x87, 0]),
        (WsError::ReservedOpcode(0xb), &[0x8b, 0]),
        (WsError::ReservedOpcode(0xf), &[0x8f, 0]),
        (WsError::Masked, &[0x82, 0x80, 1, 2, 3, 4]),
        (WsError::LengthNotMinimal, &[0x82, 126, 0, 125]),
        (WsError::LengthNotMinimal, &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
        (WsError::TooLong { len: 1 << 63 }, &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        (WsError::NothingToContinue, &[0x80, 0]),
        (WsError::NothingToContinue, &[0x82, 1, b'x', 0x80, 0]),
        (WsError::MessageInterrupted, &[0x02, 0, 0x82, 0]),
        (WsError::MessageInterrupted, &[0x02, 0, 0x81, 0]),
        (WsError::ControlFragmented, &[0x09, 0]),
        (WsError::ControlTooLong, &[0x89, 126, 0, 126]),
        (WsError::ControlTooLong, &[0x88, 127, 0, 0, 0, 0, 1, 0, 0, 0]),
        (WsError::CloseTooShort, &[0x88, 1, 3]),
        (WsError::CloseReason, &[0x88, 3, 0x03, 0xe8, 0xff]),
        (WsError::CloseCode(1005), &[0x88, 2, 0x03, 0xed]),
    ];
    for (error, wire) in cases {
        assert_eq!(client(wire), Err(error), "{wire:02x?}");
        assert_eq!(decode(Role::Client, wire.chunks(1)), Err(error), "{wire:02x?}, byte by byte");
    }
    assert_eq!(decode(Role::Server, [&[0x82, 0][..]]), Err(WsError::NotMasked));
}

#[test]
fn control_frames_of_125_bytes_are_the_largest() {
    let payload = [0x5a; ControlPayload::MAX];
    let wire = [&[0x89, 125][..], &payload].concat();
    assert_eq!(client(&wire), Ok(vec![Told::Ping(payload.to_vec())]));
    let mut out = Vec::new();
    write_control(&mut out, Opcode::Ping, &[0; 200], None);
    assert_eq!((out.len(), out[1]), (2 + 125, 125));
}

#[test]
fn messages_are_bounded_over_all_their_fragments() {
    let header = |first: u8, len: u32| {
        let mut out = Header::new(Opcode::Binary, len as usize, None).to_vec();
        out[0] = first;
        out
    };
    assert_eq!(client(&header(0x82, MAX_MESSAGE)), Ok(vec![]));
    let len = u64::from(MAX_MESSAGE) + 1;
    assert_eq!(client(&header(0x82, MAX_MESSAGE + 1)), Err(WsError::TooLong { len }));
    let two = |second| [&[0x02, 10][..], &[0; 10], &header(0x80, second)].concat();
    assert_eq!(client(&two(MAX_MESSAGE - 10)), Ok(vec![data(&[0; 10])]));
    assert_eq!(client(&two(MAX_MESSAGE - 9)), Err(WsError::TooLong { len }));
    // The next message starts from nothing.
    let again = [&[0x82, 10][..], &[0; 10], &header(0x82, MAX_MESSAGE)].concat();
    assert_eq!(client(&again), Ok(vec![data(&[0; 10])]));
}

#[test]
fn close_codes_are_those_that_may_be_sent() {
    for code in 0..=u16::MAX {
        let wire = [&[0x88, 2][..], &code.to_be_bytes()].concat();
        let may = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let expected = if may {
            Ok(vec![Told::Close(Some(code), String::new())])
        } else {
            Err(WsError::CloseCode(code))
        };
        assert_eq!(client(&wire), expected);
    }
    assert_eq!(client(&[0x88, 0]), Ok(vec![Told::Close(None, String::new())]));
}

#[test]
fn nothing_after_a_close_is_told() {
    let wire = [&[0x88, 0][..], b"\x89\x00", &[0xff; 40]].concat();
    assert_eq!(client(&wire), Ok(vec![Told::Close(None, String::new())]));
    assert_eq!(decode(Role::Client, wire.chunks(1)), Ok(vec![Told::Close(None, String::new())]));
}

#[test]
fn errors_have_the_close_code_that_tells_the_peer() {
    assert_eq!(WsError::TooLong { len: 0 }.close_code(), close_code::TOO_LARGE);
    assert_eq!(WsError::CloseReason.close_code(), close_code::INVALID_DATA);
    assert_eq!(WsError::Masked.close_code(), close_code::PROTOCOL_ERROR);
}

#[test]
fn a_pong_repeats_its_ping() {
    let mut decoder = Decoder::new(Role::Client);
    let mut wire = *b"\x89\x03abc";
    let Ok(Some(Message::Ping(ping))) = decoder.next(&mut &mut wire[..]) else { panic!("no ping") };
    let mut out = Vec::new();
    write_pong(&mut out, &ping, Some([1, 2, 3, 4]));
    assert_eq!(decode(Role::Server, [&out[..]]), Ok(vec![Told::Pong(b"abc".to_vec())]));
}

#[test]
fn a_close_reason_is_cut_between_characters() {
    let reason = "é".repeat(100);
    let mut out = Vec::new();
    write_close(&mut out, Some((1000, &reason)), None);
    assert_eq!(client(&out), Ok(vec![Told::Close(Some(1000), "é".repeat(61))]));
    out.clear();
    write_close(&mut out, None, None);
    assert_eq!(out, [0x88, 0]);
}

#[test]
fn a_decoder_is_small_and_idle_ones_own_no_heap() {
    assert!(size_of::<Decoder>() <= 40);
    let mut decoder = Decoder::new(Role::Client);
    let mut wire = everything(Role::Client);
    wire.truncate(wire.len() - 7); // without the close
    for byte in wire.chunks_mut(1) {
        let mut input = byte;
        while decoder.next(&mut input).unwrap().is_some() {}
    }
    assert!(format!("{decoder:?}").contains("control: None"));
}

#[test]
fn a_message_finished_in_place_is_the_message_written() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
        for key in [None, Some([9, 8, 7, 6])] {
            let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let mut written = b"before".to_vec();
            write_message(&mut written, Opcode::Binary, &payload, key);

            let mut finished = b"before".to_vec();
            finished.extend_from_slice(&[0xee; HEADER_ROOM]);
            finished.extend_from_slice(&payload);
            finish_message(&mut finished, 6, Opcode::Binary, key);
            assert!(finished == written, "{len} bytes, key {key:?}");
        }
    }
}

#[test]
fn masking_is_that_of_the_rfc_at_every_length() {
    for len in 0..40 {
        let mut payload: Vec<u8> = (0..len).collect();
        mask(&mut payload, [0x11, 0x22, 0x33, 0x44]);
        for (at, byte) in payload.iter().enumerate() {
            assert_eq!(*byte, at as u8 ^ [0x11, 0x22, 0x33, 0x44][at % 4]);
        }
    }
}

proptest! {
    #[test]
    fn messages_survive_any_cuts(
        is_server: bool,
        texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..400), 0..10),
        key: [u8; 4],
        cuts in proptest::collection::vec(0_usize..4000, 0..20),
    ) {
        let (role, key) = if is_server { (Role::Server, Some(key)) } else { (Role::Client, None) };
        let mut wire = Vec::new();
        for text in &texts {
            write_message(&mut wire, Opcode::Binary, text, key);
        }
        let mut cuts: Vec<_> = cuts.into_iter().filter(|cut| *cut <= wire.len()).collect();
        cuts.extend([0, wire.len()]);
        cuts.sort_unstable();
        let told = decode(role, cuts.windows(2).map(|pair| &wire[pair[0]..pair[1]])).unwrap();
        let expected: Vec<_> = if texts.is_empty() { vec![] } else { vec![Told::Data(texts.concat())] };
        prop_assert_eq!(told, expected);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic_or_depend_on_cuts(bytes: Vec<u8>, cut: usize) {
        for role in [Role::Client, Role::Server] {
            let cut = cut % (bytes.len() + 1);
            let whole = decode(role, [&bytes[..]]);
            prop_assert_eq!(&whole, &decode(role, [&bytes[..cut], &bytes[cut..]]));
            prop_assert_eq!(&whole, &decode(role, bytes.chunks(1)));
        }
    }
}
