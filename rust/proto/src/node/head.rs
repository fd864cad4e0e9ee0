//! What can still be read of a node that does not decode.

use super::cursor::Cursor;
use super::decode::Limits;
use super::outline::Place;
use super::view::NodeRef;

/// The tag and the attributes of a node whose fault lies behind them, so that its sender can be answered.
///
/// The result has no content; what it has was checked as `decode` checks it. `None` when the fault lies in front,
/// or when the node is deflated.
#[must_use]
pub fn decode_head<'a>(plain: &'a [u8], limits: &Limits) -> Option<NodeRef<'a>> {
    let (&flag, bytes) = plain.split_first()?;
    if flag & 0x02 != 0 {
        return None;
    }
    let mut cursor = Cursor::new(bytes);
    let size = cursor.list_size().ok().filter(|size| (1..=limits.max_list).contains(size))?;
    if !cursor.check_filled_str().ok()? {
        return None;
    }
    for _ in 0..(size - 1) / 2 {
        cursor.check_str().ok()?;
        cursor.check_value().ok()?;
    }
    Some(NodeRef::new(cursor.since(Cursor::new(bytes)), &ALONE))
}

/// Nothing below the head, and no content.
static ALONE: [Place; 1] = [Place { start: 0, content: 0, nodes: 1, siblings: 0 }];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Content, Node, encode};

    #[test]
    fn a_broken_content_leaves_tag_and_attributes() {
        let mut plain = Vec::new();
        encode(&Node::new("receipt").attr("id", "1").attr("from", "x").bytes([7; 40]), &mut plain);
        for cut in 1..=40 {
            let head = decode_head(&plain[..plain.len() - cut], &Limits::default()).expect("a head");
            assert!(head.tag() == "receipt");
            assert_eq!(head.attr("id").map(|id| id.to_string()).as_deref(), Some("1"));
            assert!(matches!(head.content(), Content::None));
        }
    }

    #[test]
    fn a_broken_head_leaves_nothing() {
        let mut plain = Vec::new();
        encode(&Node::new("receipt").attr("id", "1"), &mut plain);
        for cut in 1..=plain.len() {
            assert!(decode_head(&plain[..plain.len() - cut], &Limits::default()).is_none(), "{cut}");
        }
        plain[0] = 0x02;
        assert!(decode_head(&plain, &Limits::default()).is_none());
    }
}
