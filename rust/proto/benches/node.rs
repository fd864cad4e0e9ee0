//! `cargo bench -p runner-proto --bench node`: what reading and writing a stanza costs.
//!
//! `validate` is `decode` alone; `decode` also visits every tag, attribute and content of the tree once, which is
//! what other decoders do by building one. `stanzas_224` is all stanzas of the golden vectors, 250 bytes on average.

#[path = "../tests/vectors/mod.rs"]
mod vectors;

use divan::{Bencher, black_box};
use runner_proto::node::{Content, Limits, Node, NodeRef, Scratch, Writer, decode, encode};
use runner_proto::token;
use vectors::shapes;

fn main() {
    divan::main();
}

#[divan::bench(name = "node/validate", args = ["ack_small", "stanzas_224", "pre_key_upload"])]
fn validate(bencher: Bencher<'_, '_>, shape: &str) {
    let inputs = inputs(shape);
    let mut scratch = Scratch::new();
    bencher.bench_local(|| {
        for plain in &inputs {
            let _node = black_box(decode(black_box(plain), &mut scratch, &Limits::default()).is_ok());
        }
    });
}

#[divan::bench(name = "node/decode", args = ["ack_small", "stanzas_224", "pre_key_upload"])]
fn decode_and_visit(bencher: Bencher<'_, '_>, shape: &str) {
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

#[divan::bench(name = "node/encode", args = ["ack_small", "stanzas_224", "pre_key_upload"])]
fn encode_tree(bencher: Bencher<'_, '_>, shape: &str) {
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

#[divan::bench(name = "node/answer/ack_small")]
fn answer(bencher: Bencher<'_, '_>) {
    let plain = shapes::ack_small();
    let (mut scratch, mut out) = (Scratch::new(), Vec::new());
    bencher.bench_local(|| {
        out.clear();
        let Ok(node) = decode(black_box(&plain), &mut scratch, &Limits::default()) else { return };
        let mut writer = Writer::new(&mut out);
        writer.node("ack", 3, false);
        writer.attr("class", "receipt");
        for key in ["id", "from"] {
            if let Some(value) = node.attr(key) {
                writer.attr_value(key, value);
            }
        }
    });
}

#[divan::bench(name = "token/find", args = ["s.whatsapp.net", "id", "3EB085CB7396293D6A11", "15550001111"])]
fn find_token(text: &str) -> Option<token::Token> {
    token::find(black_box(text.as_bytes()))
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
