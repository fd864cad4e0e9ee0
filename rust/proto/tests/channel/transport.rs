//! The cipher of the frames after the handshake.

use proptest::prelude::*;
use runner_proto::noise::{NoiseError, TAG_LEN, Transport};

fn channel() -> (Transport, Transport) {
    (Transport::new([1; 32], [2; 32]), Transport::new([2; 32], [1; 32]))
}

fn sealed(sender: &mut Transport, text: &[u8]) -> Vec<u8> {
    let mut frame = text.to_vec();
    sender.seal(&mut frame, 0).unwrap();
    frame
}

#[test]
fn a_transport_is_small() {
    assert_eq!(size_of::<Transport>(), 72);
}

#[test]
fn seal_leaves_what_stands_in_front() {
    let (mut sender, mut receiver) = channel();
    let mut out = b"header plain".to_vec();
    sender.seal(&mut out, 7).unwrap();
    assert_eq!(&out[..7], b"header ");
    assert_eq!(out.len(), 12 + TAG_LEN);
    assert_eq!(receiver.open(&mut out[7..]).unwrap(), b"plain");
}

#[test]
fn equal_frames_look_different() {
    let (mut sender, _) = channel();
    assert_ne!(sealed(&mut sender, b"same"), sealed(&mut sender, b"same"));
}

#[test]
fn a_frame_lost_repeated_or_out_of_order_does_not_open() {
    let (mut sender, _) = channel();
    let frames: Vec<_> = [b"0", b"1", b"2"].map(|text| sealed(&mut sender, text)).to_vec();
    for order in [&[1][..], &[0, 0], &[0, 2], &[1, 0]] {
        let (_, mut receiver) = channel();
        let results: Vec<_> = order
            .iter()
            .map(|at| receiver.open(&mut frames[*at].clone()).map(|plain| plain.to_vec()))
            .collect();
        assert!(results.contains(&Err(NoiseError::Open)), "{order:?}");
    }
}

#[test]
fn a_direction_does_not_open_its_own_frames() {
    let (mut sender, _) = channel();
    let mut frame = sealed(&mut sender, b"mirror");
    assert_eq!(sender.open(&mut frame), Err(NoiseError::Open));
}

#[test]
fn a_frame_that_does_not_open_leaves_the_channel_where_it_was() {
    let (mut sender, mut receiver) = channel();
    let frame = sealed(&mut sender, b"text");
    for len in 0..frame.len() {
        assert_eq!(receiver.open(&mut frame[..len].to_vec()), Err(NoiseError::Open));
    }
    for bit in 0..frame.len() * 8 {
        let mut other = frame.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        let before = other.clone();
        assert_eq!(receiver.open(&mut other), Err(NoiseError::Open));
        assert_eq!(other, before, "not decrypted before it is believed");
    }
    let mut frame = frame;
    assert_eq!(receiver.open(&mut frame).unwrap(), b"text");
}

#[test]
fn an_empty_plaintext_is_a_frame_too() {
    let (mut sender, mut receiver) = channel();
    let mut frame = sealed(&mut sender, b"");
    assert_eq!(frame.len(), TAG_LEN);
    assert_eq!(receiver.open(&mut frame).unwrap(), b"");
}

proptest! {
    #[test]
    fn what_is_sealed_opens(texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 1..8)) {
        let (mut sender, mut receiver) = channel();
        for text in texts {
            let mut frame = sealed(&mut sender, &text);
            prop_assert_eq!(receiver.open(&mut frame).unwrap(), text);
        }
    }

    #[test]
    fn garbage_does_not_open(mut garbage: Vec<u8>) {
        prop_assert_eq!(channel().1.open(&mut garbage), Err(NoiseError::Open));
    }
}
