//! `cargo bench -p runner-judge --bench node`: our node codec beside `wacore-binary`'s, in one run.
//!
//! `decode` is the call that ends in a node one can read: theirs builds a tree, ours validates. `visit` adds a look at
//! every tag, attribute and content, which ours reads on demand. Both encoders write an owned tree into a warm buffer.
//! `stanzas_224` is all stanzas of the golden vectors, 250 bytes on average.

#[path = "../../proto/tests/vectors/mod.rs"]
mod vectors;

use divan::{Bencher, black_box};
use runner_proto::node::{Content, Limits, Node, NodeRef, Scratch, decode, encode};
use vectors::shapes;
use wacore_binary::marshal::{marshal_to_vec, unmarshal_ref};
use wacore_binary::{NodeContentRef, NodeRef as ForeignRef};

const SHAPES: [&str; 3] = ["ack_small", "stanzas_224", "pre_key_upload"];

fn main() {
    divan::main();
}

#[divan::bench(name = "node/decode/ours", args = SHAPES, sample_size = 20)]
fn decode_ours(bencher: Bencher<'_, '_>, shape: &str) {
    let inputs = inputs(shape);
    let mut scratch = Scratch::new();
    bencher.bench_local(|| {
        for plain in &inputs {
            let _node = black_box(decode(black_box(plain), &mut scratch, &Limits::default()));
        }
    });
}

#[divan::bench(name = "node/decode/wacore_binary", args = SHAPES, sample_size = 20)]
fn decode_theirs(bencher: Bencher<'_, '_>, shape: &str) {
    let inputs = inputs(shape);
    bencher.bench_local(|| {
        for plain in &inputs {
            drop(black_box(unmarshal_ref(black_box(&plain[1..]))));
        }
    });
}

#[divan::bench(name = "node/visit/ours", args = SHAPES, sample_size = 20)]
fn visit_ours(bencher: Bencher<'_, '_>, shape: &str) {
    let inputs = inputs(shape);
    let mut scratch = Scratch::new();
    bencher.bench_local(|| {
        for plain in &inputs {
            if let Ok(node) = decode(black_box(plain), &mut scratch, &Limits::default()) {
                visit(node);
            }
        }
    });
}

#[divan::bench(name = "node/visit/wacore_binary", args = SHAPES, sample_size = 20)]
fn visit_theirs(bencher: Bencher<'_, '_>, shape: &str) {
    let inputs = inputs(shape);
    bencher.bench_local(|| {
        for plain in &inputs {
            if let Ok(node) = unmarshal_ref(black_box(&plain[1..])) {
                visit_foreign(&node);
            }
        }
    });
}

#[divan::bench(name = "node/encode/ours", args = SHAPES, sample_size = 20)]
fn encode_ours(bencher: Bencher<'_, '_>, shape: &str) {
    let mut scratch = Scratch::new();
    let nodes: Vec<Node> = inputs(shape)
        .iter()
        .map(|plain| decode(plain, &mut scratch, &Limits::default()).expect("a node").to_node())
        .collect();
    let mut out = Vec::new();
    bencher.bench_local(|| {
        for node in &nodes {
            out.clear();
            encode(black_box(node), &mut out);
        }
    });
}

#[divan::bench(name = "node/encode/wacore_binary", args = SHAPES, sample_size = 20)]
fn encode_theirs(bencher: Bencher<'_, '_>, shape: &str) {
    let nodes: Vec<wacore_binary::Node> =
        inputs(shape).iter().map(|plain| unmarshal_ref(&plain[1..]).expect("a node").to_owned()).collect();
    let mut out = Vec::new();
    bencher.bench_local(|| {
        for node in &nodes {
            out.clear();
            marshal_to_vec(black_box(node), &mut out).expect("a node");
        }
    });
}

fn inputs(shape: &str) -> Vec<Vec<u8>> {
    match shape {
        "ack_small" => vec![shapes::ack_small()],
        "pre_key_upload" => vec![shapes::pre_key_upload()],
        _ => shapes::stanzas(),
    }
}

fn visit(node: NodeRef<'_>) {
    black_box(node.tag());
    node.attrs().for_each(|attr| {
        black_box(attr);
    });
    match node.content() {
        Content::Nodes(children) => children.for_each(visit),
        other => {
            black_box(other);
        }
    }
}

fn visit_foreign(node: &ForeignRef<'_>) {
    black_box(&node.tag);
    node.attrs_iter().for_each(|attr| {
        black_box(attr);
    });
    match &node.content {
        Some(NodeContentRef::Nodes(children)) => children.iter().for_each(visit_foreign),
        other => {
            black_box(other);
        }
    }
}
