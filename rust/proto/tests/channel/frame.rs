//! Frames, however the bytes are cut.

use proptest::prelude::*;
use runner_proto::frame::{Frame, FrameDecoder, FrameError, MAX_FRAME, MAX_SENT, header, write, write_intro};

/// Feeds `pieces` and returns the frames, with whether each was copied.
fn decode<'p>(
    decoder: &mut FrameDecoder,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Result<Vec<(Vec<u8>, bool)>, FrameError> {
    let mut frames = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = piece.as_mut_slice();
        while let Some(frame) = decoder.next(&mut input)? {
            frames.push((frame.to_vec(), matches!(frame, Frame::Joined(_))));
        }
        assert!(input.is_empty());
    }
    Ok(frames)
}

fn payloads(frames: Vec<(Vec<u8>, bool)>) -> Vec<Vec<u8>> {
    frames.into_iter().map(|(payload, _)| payload).collect()
}

const WIRE: [u8; 16] = [0, 0, 2, b'h', b'i', 0, 0, 0, 0, 0, 5, b'w', b'o', b'r', b'l', b'd'];

#[test]
fn any_chunking_yields_the_same_frames() {
    for chunk in 1..=WIRE.len() {
        let mut decoder = FrameDecoder::new();
        let frames = decode(&mut decoder, WIRE.chunks(chunk)).unwrap();
        assert_eq!(payloads(frames), [&b"hi"[..], b"", b"world"], "chunk of {chunk}");
        assert!(decoder.is_between_frames());
    }
}

#[test]
fn any_two_cuts_yield_the_same_frames() {
    for one in 0..=WIRE.len() {
        for two in one..=WIRE.len() {
            let pieces = [&WIRE[..one], &WIRE[one..two], &WIRE[two..]];
            let frames = decode(&mut FrameDecoder::new(), pieces).unwrap();
            assert_eq!(payloads(frames), [&b"hi"[..], b"", b"world"], "cut at {one} and {two}");
        }
    }
}

#[test]
fn a_frame_that_lies_whole_is_not_copied() {
    let frames = decode(&mut FrameDecoder::new(), [&WIRE[..]]).unwrap();
    assert!(frames.iter().all(|(_, copied)| !copied));
    // Nor is one whose length came earlier.
    let frames = decode(&mut FrameDecoder::new(), [&WIRE[..2], &WIRE[2..]]).unwrap();
    assert!(frames.iter().all(|(_, copied)| !copied));
    let frames = decode(&mut FrameDecoder::new(), [&WIRE[..4], &WIRE[4..]]).unwrap();
    assert_eq!(frames.iter().map(|(_, copied)| *copied).collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn a_truncated_stream_yields_only_the_whole_frames() {
    for len in 0..WIRE.len() {
        let mut decoder = FrameDecoder::new();
        let frames = decode(&mut decoder, [&WIRE[..len]]).unwrap();
        assert_eq!(frames.len(), usize::from(len >= 5) + usize::from(len >= 8), "{len}");
        assert_eq!(decoder.is_between_frames(), matches!(len, 0 | 5 | 8));
    }
}

#[test]
fn lengths_are_bounded() {
    let announce = |len: usize| decode(&mut FrameDecoder::new(), [&header(len).unwrap()[..]]);
    assert_eq!(announce(MAX_FRAME - 1), Ok(vec![]));
    assert_eq!(announce(MAX_FRAME), Ok(vec![]));
    assert_eq!(announce(MAX_FRAME + 1), Err(FrameError::TooLong { len: MAX_FRAME + 1 }));
    // Also when the prefix comes in pieces.
    let error = decode(&mut FrameDecoder::new(), [&[0xff][..], &[0xff], &[0xff]]);
    assert_eq!(error, Err(FrameError::TooLong { len: MAX_SENT }));
}

#[test]
fn the_largest_frame_arrives() {
    let mut wire = Vec::new();
    write(&mut wire, &vec![7; MAX_FRAME]).unwrap();
    let frames = decode(&mut FrameDecoder::new(), wire.chunks(1 << 20)).unwrap();
    assert_eq!(frames.len(), 1);
    assert!(frames[0].0.len() == MAX_FRAME && frames[0].0.iter().all(|byte| *byte == 7));
}

#[test]
fn a_length_alone_takes_no_memory() {
    let mut decoder = FrameDecoder::new();
    decode(&mut decoder, [&header(MAX_FRAME).unwrap()[..], &[1]]).unwrap();
    let debug = format!("{decoder:?}");
    assert!(debug.contains("partial: [1]"), "{debug}");
    assert!(decoder.reserved_bytes() <= 64 * 1024);
}

#[test]
fn an_idle_decoder_owns_no_heap() {
    let mut decoder = FrameDecoder::new();
    decode(&mut decoder, WIRE.chunks(1)).unwrap();
    assert_eq!(decoder.reserved_bytes(), 0);
    assert!(size_of::<FrameDecoder>() <= 32);
}

#[test]
fn a_payload_too_long_for_its_prefix_is_not_written() {
    assert_eq!(header(MAX_SENT), Some([0xff; 3]));
    assert_eq!(header(MAX_SENT + 1), None);
    assert_eq!(header(usize::MAX), None);
    let mut out = vec![9];
    let error = write(&mut out, &vec![0; MAX_SENT + 1]);
    assert_eq!((error, out), (Err(FrameError::TooLong { len: MAX_SENT + 1 }), vec![9]));
}

#[test]
fn an_intro_is_the_prologue_with_the_routing_info_in_front() {
    let intro = |info: Option<&[u8]>| {
        let mut out = Vec::new();
        write_intro(&mut out, info);
        out
    };
    assert_eq!(intro(None), [0x57, 0x41, 0x06, 0x03]);
    assert_eq!(intro(Some(&[])), [0x57, 0x41, 0x06, 0x03]);
    // The example of docs/protocol.md, seen from a real client.
    assert_eq!(
        intro(Some(&[0x08, 0x02, 0x08, 0x05])),
        [0x45, 0x44, 0, 1, 0, 0, 4, 8, 2, 8, 5, 0x57, 0x41, 6, 3]
    );
    assert_eq!(intro(Some(&vec![0; MAX_SENT + 1])), [0x57, 0x41, 0x06, 0x03]);
}

proptest! {
    #[test]
    fn frames_survive_any_cuts(
        texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..10),
        cuts in proptest::collection::vec(0_usize..3000, 0..20),
    ) {
        let mut wire = Vec::new();
        for text in &texts {
            write(&mut wire, text).unwrap();
        }
        let mut cuts: Vec<_> = cuts.into_iter().filter(|cut| *cut <= wire.len()).collect();
        cuts.extend([0, wire.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|pair| &wire[pair[0]..pair[1]]);
        prop_assert_eq!(payloads(decode(&mut FrameDecoder::new(), pieces).unwrap()), texts);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(pieces in proptest::collection::vec(any::<Vec<u8>>(), 0..20)) {
        let _ = decode(&mut FrameDecoder::new(), pieces.iter().map(Vec::as_slice));
    }
}
