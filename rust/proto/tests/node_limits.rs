//! Every limit of the node decoder, just below, at, and just above it.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use runner_proto::node::{
    DecodeError, DecodeErrorKind, Limits, MAX_ATTRS, MAX_DEPTH, Node, Scratch, decode, encode,
};

fn outcome(plain: &[u8], limits: &Limits) -> Result<(), DecodeErrorKind> {
    decode(plain, &mut Scratch::new(), limits).map(|_| ()).map_err(|error: DecodeError| error.kind)
}

fn encoded(node: &Node) -> Vec<u8> {
    let mut out = Vec::new();
    encode(node, &mut out);
    out
}

fn nested(depth: usize) -> Vec<u8> {
    // A list of one child and the tag `list` each, the last one without content.
    let mut plain = vec![0];
    for _ in 1..depth {
        plain.extend([0xF8, 2, 0x71, 0xF8, 1]);
    }
    plain.extend([0xF8, 1, 0x71]);
    plain
}

fn deflated(node: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(vec![0x02], Compression::best());
    encoder.write_all(node).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn depth_is_limited() {
    for limit in [1, 2, 7, MAX_DEPTH] {
        let limits = Limits { max_depth: limit, ..Limits::default() };
        assert_eq!(outcome(&nested(limit.max(2) - 1), &limits), Ok(()), "{limit}");
        assert_eq!(outcome(&nested(limit), &limits), Ok(()), "{limit}");
        assert_eq!(outcome(&nested(limit + 1), &limits), Err(DecodeErrorKind::TooDeep), "{limit}");
    }
}

#[test]
fn no_setting_allows_more_depth_than_the_constant() {
    let limits = Limits { max_depth: usize::MAX, ..Limits::default() };
    assert_eq!(outcome(&nested(MAX_DEPTH), &limits), Ok(()));
    assert_eq!(outcome(&nested(MAX_DEPTH + 1), &limits), Err(DecodeErrorKind::TooDeep));
}

#[test]
fn a_million_levels_do_not_overflow_the_stack() {
    let plain = nested(1 << 20);
    assert_eq!(outcome(&plain, &Limits::default()), Err(DecodeErrorKind::TooDeep));
}

#[test]
fn the_deepest_node_becomes_a_tree_on_a_small_stack() {
    let run = || {
        let mut scratch = Scratch::new();
        let plain = nested(MAX_DEPTH);
        let node = decode(&plain, &mut scratch, &Limits::default()).unwrap().to_node();
        assert_eq!(encoded(&node), plain);
    };
    std::thread::Builder::new().stack_size(256 * 1024).spawn(run).unwrap().join().unwrap();
}

#[test]
fn lists_are_limited() {
    let limits = Limits { max_list: 10, ..Limits::default() };
    let parent =
        |children: usize| encoded(&Node::new("list").children((0..children).map(|_| Node::new("item"))));
    assert_eq!(outcome(&parent(9), &limits), Ok(()));
    assert_eq!(outcome(&parent(10), &limits), Ok(()));
    assert_eq!(outcome(&parent(11), &limits), Err(DecodeErrorKind::ListTooLong(11)));
    // Tag, 4 keys, 4 values: 9; with content 10; with one attribute more 11.
    let node = |attrs: usize| (0..attrs).fold(Node::new("iq"), |node, at| node.attr(at.to_string(), "v"));
    assert_eq!(outcome(&encoded(&node(4)), &limits), Ok(()));
    assert_eq!(outcome(&encoded(&node(4).bytes([1])), &limits), Ok(()));
    assert_eq!(outcome(&encoded(&node(5)), &limits), Err(DecodeErrorKind::ListTooLong(11)));
}

#[test]
fn nodes_and_attributes_are_limited_in_all() {
    let limits = Limits { max_nodes: 5, max_attrs: 3, ..Limits::default() };
    let tree = |nodes: usize, attrs: usize| {
        let child = |at| if at < attrs { Node::new("item").attr("id", "1") } else { Node::new("item") };
        encoded(&Node::new("list").children((0..nodes - 1).map(child)))
    };
    assert_eq!(outcome(&tree(4, 2), &limits), Ok(()));
    assert_eq!(outcome(&tree(5, 3), &limits), Ok(()));
    assert_eq!(outcome(&tree(6, 3), &limits), Err(DecodeErrorKind::TooManyNodes));
    assert_eq!(outcome(&tree(5, 4), &limits), Err(DecodeErrorKind::TooManyAttrs));
}

#[test]
fn bytes_are_limited() {
    let limits = Limits { max_bytes: 300, ..Limits::default() };
    // Flag, list, tag and a prefix of four bytes.
    let node = |len: usize| encoded(&Node::new("enc").bytes(vec![7; len - 8]));
    assert_eq!(outcome(&node(299), &limits), Ok(()));
    assert_eq!(outcome(&node(300), &limits), Ok(()));
    assert_eq!(outcome(&node(301), &limits), Err(DecodeErrorKind::TooLong));
}

#[test]
fn inflated_bytes_are_limited() {
    let limits = Limits { max_inflated_bytes: 20_000, ..Limits::default() };
    let node = |len: usize| deflated(&encoded(&Node::new("enc").bytes(vec![7; len - 7]))[1..]);
    assert_eq!(outcome(&node(19_999), &limits), Ok(()));
    assert_eq!(outcome(&node(20_000), &limits), Ok(()));
    assert_eq!(outcome(&node(20_001), &limits), Err(DecodeErrorKind::InflatedTooLong));
}

#[test]
fn a_zip_bomb_costs_no_more_than_the_limit() {
    let bomb = deflated(&vec![0; 256 * 1024 * 1024]);
    assert!(bomb.len() < 512 * 1024);
    let mut scratch = Scratch::new();
    let limits = Limits { max_inflated_bytes: 1 << 20, ..Limits::default() };
    let error = decode(&bomb, &mut scratch, &limits).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::InflatedTooLong);
    assert!(scratch.capacity_bytes() <= 2 << 20, "{}", scratch.capacity_bytes());
}

#[test]
fn every_truncation_of_a_deflated_node_is_refused() {
    let plain =
        deflated(&encoded(&Node::new("enc").attr("id", "3EB0").bytes((0..=255).collect::<Vec<u8>>()))[1..]);
    assert_eq!(outcome(&plain, &Limits::default()), Ok(()));
    // The last four bytes are the checksum: zlib wants them too.
    for len in 1..plain.len() {
        assert_eq!(outcome(&plain[..len], &Limits::default()), Err(DecodeErrorKind::Inflate), "{len}");
    }
}

#[test]
fn the_scratch_space_serves_one_node_after_the_other() {
    let mut scratch = Scratch::new();
    for id in ["1", "3EB0", "a"] {
        let plain = deflated(&encoded(&Node::new("ack").attr("id", id))[1..]);
        let node = decode(&plain, &mut scratch, &Limits::default()).unwrap();
        assert!(node.attr("id").unwrap() == id);
    }
}

#[test]
fn what_the_scratch_space_keeps_follows_the_node_limit() {
    let many = encoded(&Node::new("list").children((0..60_000).map(|_| Node::new("key"))));
    let (mut scratch, limits) = (Scratch::new(), Limits { max_nodes: 1000, ..Limits::default() });
    assert_eq!(decode(&many, &mut scratch, &limits).unwrap_err().kind, DecodeErrorKind::TooManyNodes);
    assert!((16_000..=32_000).contains(&scratch.capacity_bytes()), "{}", scratch.capacity_bytes());
}

#[test]
fn a_sibling_is_found_behind_any_subtree() {
    let key = |id: usize, depth: usize| {
        (0..depth).fold(Node::new("key").attr("id", id.to_string()), |node, _| {
            Node::new("list").child(Node::new("skey")).child(node).child(Node::new("value").bytes([7; 300]))
        })
    };
    let node = Node::new("iq").children((0..100).map(|id| key(id, id % 17)));
    let plain = encoded(&node);
    let mut scratch = Scratch::new();
    let decoded = decode(&plain, &mut scratch, &Limits::default()).unwrap();
    for (index, (child, expected)) in decoded.children().zip(node.nodes()).enumerate() {
        assert_eq!(child.to_node(), *expected, "{index}");
        assert_eq!(child.encoded(), &encoded(expected)[1..], "{index}");
    }
    assert_eq!(decoded.children().count(), 100);
}

#[test]
fn the_widest_lists_round_trip() {
    let widest = (0..MAX_ATTRS).fold(Node::new("iq"), |node, at| node.attr(format!("k{at}"), "v"));
    for node in [widest.clone(), widest.bytes([1])] {
        assert_eq!(node.check(), Ok(()));
        let plain = encoded(&node);
        assert_eq!(decode(&plain, &mut Scratch::new(), &Limits::default()).unwrap().to_node(), node);
    }
    let children = Node::new("list").children((0..65_535).map(|_| Node::new("item")));
    assert_eq!(children.check(), Ok(()));
    let plain = encoded(&children);
    assert_eq!(decode(&plain, &mut Scratch::new(), &Limits::default()).unwrap().children().len(), 65_535);
}

#[test]
fn nodes_that_the_wire_cannot_hold_are_named() {
    use runner_proto::node::EncodeError;
    let wide = (0..=MAX_ATTRS).fold(Node::new("iq"), |node, _| node.attr("k", "v"));
    assert_eq!(wide.check(), Err(EncodeError::TooManyAttrs(MAX_ATTRS + 1)));
    let many = Node::new("list").children((0..65_536).map(|_| Node::new("item")));
    assert_eq!(many.check(), Err(EncodeError::TooManyChildren(65_536)));
    let deep = |depth: usize| (1..depth).fold(Node::new("leaf"), |node, _| Node::new("list").child(node));
    assert_eq!(deep(MAX_DEPTH).check(), Ok(()));
    assert_eq!(deep(MAX_DEPTH + 1).check(), Err(EncodeError::TooDeep));
    assert_eq!(Node::new("iq").child(Node::new("")).check(), Err(EncodeError::NoTag));
}

#[test]
fn an_empty_tag_is_refused_in_every_form() {
    let empty: [&[u8]; 7] = [
        &[0],
        &[0xFC, 0],
        &[0xFD, 0, 0, 0],
        &[0xFD, 0xF0, 0, 0],
        &[0xFE, 0, 0, 0, 0],
        &[0xFF, 0],
        &[0xFB, 0x80],
    ];
    for tag in empty {
        let plain = [&[0, 0xF8, 1], tag].concat();
        assert_eq!(outcome(&plain, &Limits::default()), Err(DecodeErrorKind::BadNode), "{tag:?}");
        // The same as a server: nobody lives nowhere.
        let plain = [&[0, 0xF8, 3, 0x11, 0x0C, 0xFA, 0x0E], tag].concat();
        assert_eq!(outcome(&plain, &Limits::default()), Err(DecodeErrorKind::BadJid), "{tag:?}");
    }
    // Content that ends like an empty string is none.
    let plain = [0, 0xF8, 1, 0xFD, 0, 0, 4, 0xFD, 0, 0, 0];
    assert_eq!(outcome(&plain, &Limits::default()), Ok(()));
}

#[test]
fn a_jid_inside_a_jid_is_refused() {
    for at_user in [true, false] {
        let (user, server): (&[u8], &[u8]) =
            if at_user { (&[0xFA, 0x0E, 3], &[3]) } else { (&[0x0E], &[0xFA, 0x0E, 3]) };
        let plain = [&[0, 0xF8, 3, 0x11, 0x0C, 0xFA], user, server].concat();
        assert_eq!(outcome(&plain, &Limits::default()), Err(DecodeErrorKind::BadJid));
    }
}
