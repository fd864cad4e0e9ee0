//! What one stanza costs the client: WebSocket, frame, Noise, decoding, counters and the answer, in runs of 100 as a
//! busy socket gives them. TLS and the socket are not in it: `cargo bench -p runner-client`. The whole way, with both:
//! `python -m bench.scenarios.receive`.

use std::cell::RefCell;

use divan::{Bencher, black_box, counter::ItemsCount};
use runner_client::{Committed, Effect};
use runner_proto::node::Node;
use support::{World, jid, message, peer};

#[path = "../tests/support/mod.rs"]
mod support;

const STANZAS: usize = 100;

fn main() {
    divan::main();
}

/// The client handles runs of this stanza, each with an id of its own.
fn receive(bencher: Bencher<'_, '_>, stanza: impl Fn(&str) -> Node) {
    let world = RefCell::new(World::online());
    let mut id = 0_u64;
    bencher
        .counter(ItemsCount::new(STANZAS))
        .with_inputs(|| {
            let world = &mut *world.borrow_mut();
            for _ in 0..STANZAS {
                id += 1;
                world.peer.send(&stanza(&format!("3EB0{id:016X}")));
            }
            std::mem::take(&mut world.peer.out)
        })
        .bench_local_refs(|bytes| {
            let world = &mut *world.borrow_mut();
            world.out.clear();
            world.call(|client, cx| client.handle_input(black_box(bytes), cx));
            // What asks to be committed is answered, as if the store had done it.
            for effect in std::mem::take(&mut world.effects) {
                if let Effect::Commit { token, .. } = effect {
                    world.call(|client, cx| client.on_committed(token, Ok(Committed::default()), cx));
                }
            }
        });
}

/// The simplest stanza: nobody is told, nothing is answered.
#[divan::bench]
fn ib(bencher: Bencher<'_, '_>) {
    receive(bencher, |_| peer::ib(Node::new("thread_metadata")));
}

/// Answered with an ack.
#[divan::bench]
fn receipt(bencher: Bencher<'_, '_>) {
    receive(bencher, |id| {
        Node::new("receipt")
            .attr_jid("from", jid("15550002222@s.whatsapp.net"))
            .attr("id", id)
            .attr("t", "1767225600")
            .attr("type", "read")
    });
}

/// Asked to be committed, then answered with an ack.
#[divan::bench]
fn inbox_message(bencher: Bencher<'_, '_>) {
    receive(bencher, message);
}
