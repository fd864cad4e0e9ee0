//! Reading a node and writing one, with warm buffers, allocate nothing. Counted, not believed.

#![allow(unsafe_code, reason = "a global allocator cannot be had without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use runner_proto::jid::Jid;
use runner_proto::node::{Content, Limits, Node, NodeRef, Scratch, Writer, decode, encode};

mod vectors;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands everything to the system's allocator; the counter is a thread's own and needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(run: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn decoding_and_visiting_everything_allocates_nothing() {
    let mut visited = 0;
    let mut scratch = Scratch::new();
    for vector in vectors::all() {
        let _warm = decode(&vector.bytes, &mut scratch, &Limits::default());
    }
    for vector in vectors::all().iter().filter(|vector| vector.bytes[0] == 0) {
        let count = allocations(|| {
            if let Ok(node) = decode(&vector.bytes, &mut scratch, &Limits::default()) {
                visited += visit(node);
            }
        });
        assert_eq!(count, 0, "{}", vector.id);
    }
    assert!(visited > 10_000, "{visited}");
}

/// Looks at every part the way a handler does: compares tags, keys and values, parses numbers.
fn visit(node: NodeRef<'_>) -> usize {
    let mut seen = usize::from(node.tag() != "no such tag");
    for (key, value) in node.attrs() {
        seen += usize::from(key != "no such key") + usize::from(value != *"1@no.such.server");
        std::hint::black_box((value.parse_u64(), value.as_jid().map(|jid| jid.device())));
    }
    std::hint::black_box((node.attr("id").is_some(), node.child("enc").is_some(), node.bytes()));
    match node.content() {
        Content::Nodes(children) => seen + children.map(visit).sum::<usize>(),
        Content::Text(text) => seen + usize::from(text != *"no such text"),
        Content::Bytes(_) | Content::None => seen,
    }
}

#[test]
fn answering_into_a_warm_buffer_allocates_nothing() {
    let mut received = Vec::new();
    let message = Node::new("message")
        .attr_jid("from", "15550001111:3@s.whatsapp.net".parse().unwrap())
        .attr("id", "3EB085CB7396293D")
        .attr("t", "1700000000")
        .attr("notify", "Bob");
    encode(&message, &mut received);
    let (mut scratch, mut out) = (Scratch::new(), Vec::with_capacity(256));
    let _warm = decode(&received, &mut scratch, &Limits::default());
    let own: Jid = "15550002222:7@s.whatsapp.net".parse().unwrap();
    let count = allocations(|| {
        let message = decode(&received, &mut scratch, &Limits::default()).unwrap();
        let mut writer = Writer::new(&mut out);
        writer.node("receipt", 4, true);
        writer.attr_value("to", message.attr("from").unwrap());
        writer.attr_value("id", message.attr("id").unwrap());
        writer.attr_jid("participant", &own);
        writer.attr_u64("t", 1_700_000_001);
        writer.children(1);
        writer.node("retry", 1, true);
        writer.attr("v", "1");
        writer.bytes(&[7; 32]);
        assert!(writer.is_complete());
    });
    assert_eq!(count, 0);
    assert!(out.len() > 60);
}
