//! Deflated nodes.

use flate2::{Decompress, FlushDecompress, Status};

use super::error::DecodeErrorKind;

/// Inflates a zlib stream (RFC 1950) into `out`, which is cleared first and never grows beyond `max` bytes.
pub(super) fn inflate_into(data: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), DecodeErrorKind> {
    out.clear();
    let mut state = Decompress::new(true);
    let mut piece = [0; PIECE];
    loop {
        // Both totals count from the first byte of this stream.
        let read = usize::try_from(state.total_in()).unwrap_or(usize::MAX);
        let input = data.get(read..).unwrap_or_default();
        let before = state.total_out();
        let status = state
            .decompress(input, &mut piece, FlushDecompress::None)
            .map_err(|_| DecodeErrorKind::Inflate)?;
        let written = usize::try_from(state.total_out() - before).unwrap_or(usize::MAX);
        let inflated = piece.get(..written).unwrap_or_default();
        if inflated.len() > max - out.len() {
            return Err(DecodeErrorKind::InflatedTooLong);
        }
        out.extend_from_slice(inflated);
        match status {
            Status::StreamEnd => return Ok(()),
            // Nothing went in and nothing came out: the stream is cut off.
            _ if written == 0 && state.total_in() == read as u64 => return Err(DecodeErrorKind::Inflate),
            _ => {}
        }
    }
}

const PIECE: usize = 8 * 1024;
