//! What a client sends before its first frame: edge routing, if it has any, and the prologue.

use runner_proto::frame;

/// Most bytes of routing info accepted.
const MAX_ROUTING_INFO: usize = 64 * 1024;

/// An intro that is whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Intro {
    /// What an earlier connection was told in `<edge_routing>`.
    pub(super) routing_info: Option<Box<[u8]>>,
    /// Bytes of the intro, behind which the first frame begins.
    pub(super) len: usize,
}

/// Reads an intro; `None` until it is whole.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Intro>, &'static str> {
    let (routing_info, at) = match bytes.strip_prefix(&frame::EDGE_ROUTING[..]) {
        Some(rest) => {
            let Some((&[a, b, c], rest)) = rest.split_first_chunk::<3>() else { return Ok(None) };
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            if len > MAX_ROUTING_INFO {
                return Err("routing info is too long");
            }
            let Some(info) = rest.get(..len) else { return Ok(None) };
            (Some(info.into()), frame::EDGE_ROUTING.len() + frame::HEADER_LEN + len)
        }
        None if frame::EDGE_ROUTING.starts_with(bytes) => return Ok(None),
        None => (None, 0),
    };
    match bytes.get(at..) {
        Some(rest) if rest.starts_with(&frame::PROLOGUE) => {
            Ok(Some(Intro { routing_info, len: at + frame::PROLOGUE.len() }))
        }
        Some(rest) if frame::PROLOGUE.starts_with(rest) => Ok(None),
        _ => Err("not the prologue"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intro_is_read_with_and_without_routing_info_however_it_is_cut() {
        let plain = b"WA\x06\x03\x00\x00\x01x";
        let routed = b"ED\x00\x01\x00\x00\x04\x08\x02\x08\x05WA\x06\x03\x00";
        for (bytes, info, len) in [(&plain[..], None, 4), (&routed[..], Some(&[8, 2, 8, 5][..]), 15)] {
            for cut in 0..bytes.len() {
                let whole = Intro { routing_info: info.map(Into::into), len };
                assert_eq!(read(&bytes[..cut]), Ok((cut >= len).then_some(whole)), "cut at {cut}");
            }
        }
        assert!(read(b"GET /").is_err());
        assert!(read(b"ED\x00\x01\xff\xff\xff").is_err());
    }
}
