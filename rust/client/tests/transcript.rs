//! A connection recorded once, and played to a client cut in every way.

mod support;

use std::sync::Arc;

use runner_client::{Client, Cx, Effect};
use runner_proto::{cert::CachedServerKey, node::Node, phase::Phase, session::Buffers, time::Instant};
use support::{Seeded, World, config, device, jid, message, peer::ib, resuming_device};

/// What the server said, and what it made the client want. A server's bytes depend on the client's ephemeral key, and
/// so on nothing but the seed.
struct Recording {
    flights: Vec<Vec<u8>>,
    effects: Vec<String>,
    resumes: bool,
}

fn record(resumes: bool) -> Recording {
    let mut world = World::new(if resumes { resuming_device() } else { device() });
    world.commits = None;
    let mut flights = Vec::new();
    world.call(|client, cx| client.handle_open(cx));
    let mut turn = 0;
    loop {
        let out = std::mem::take(&mut world.out);
        world.peer.receive(&out, world.unix_ms() / 1000);
        if world.peer.out.is_empty() {
            turn += 1;
            match turn {
                1 => {
                    for id in 0..3 {
                        world.peer.send(&message(&format!("M{id}")));
                    }
                    world.peer.send(&ib(
                        Node::new("edge_routing").child(Node::new("routing_info").bytes([1, 2, 3]))
                    ));
                    let receipt = Node::new("receipt").attr("id", "R");
                    world.peer.send(&receipt.attr_jid("from", jid("15550002222@s.whatsapp.net")));
                    runner_proto::ws::write_control(
                        &mut world.peer.out,
                        runner_proto::ws::Opcode::Ping,
                        b"abc",
                        None,
                    );
                }
                2 => world.peer.send(&Node::new("stream:error").attr("code", "503")),
                _ => break,
            }
        }
        let mut flight = std::mem::take(&mut world.peer.out);
        flights.push(flight.clone());
        world.call(|client, cx| client.handle_input(&mut flight, cx));
    }
    assert_eq!(world.closed().reason.slug(), "stream_service_unavailable");
    Recording { flights, effects: describe(&world.effects), resumes }
}

fn describe(effects: &[Effect]) -> Vec<String> {
    effects.iter().map(|effect| format!("{effect:?}")).collect()
}

/// Plays the server's bytes, each flight cut by `cut`, to a client with the recorded seed.
fn play(recording: &Recording, mut cut: impl FnMut(usize) -> usize) -> (Vec<String>, Phase) {
    let device = if recording.resumes { resuming_device() } else { device() };
    let now = Instant::from_micros(1_000_000);
    let mut client = Client::new(Arc::new(config()), device, now);
    let (mut entropy, mut out, mut scratch, mut effects) =
        (Seeded(42), Vec::new(), Buffers::new(), Vec::new());
    let mut cx = Cx {
        now,
        unix_ms: support::START_UNIX_MS + 1000,
        entropy: &mut entropy,
        out: &mut out,
        scratch: &mut scratch,
        effects: &mut effects,
    };
    client.handle_open(&mut cx);
    for flight in &recording.flights {
        let mut flight = flight.clone();
        let mut rest = &mut flight[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at_mut(cut(rest.len()).clamp(1, rest.len()));
            client.handle_input(piece, &mut cx);
            rest = behind;
        }
    }
    (describe(&effects), client.phase())
}

#[test]
fn every_chunking_of_a_connection_says_and_wants_the_same() {
    for resumes in [false, true] {
        let recording = record(resumes);
        let longest = recording.flights.iter().map(Vec::len).max().expect("flights");
        for chunk in 1..=longest {
            let (effects, phase) = play(&recording, |_| chunk);
            assert_eq!((&effects, phase), (&recording.effects, Phase::Closed), "chunks of {chunk}");
        }
    }
}

#[test]
fn every_single_cut_of_a_connection_says_and_wants_the_same() {
    let recording = record(false);
    for (index, flight) in recording.flights.iter().enumerate() {
        for at in 1..flight.len() {
            let mut flight_of_cut = 0;
            let mut is_cut = false;
            let (effects, _) = play(&recording, |rest| {
                if is_cut || flight_of_cut != index {
                    flight_of_cut += 1;
                    is_cut = false;
                    return rest;
                }
                is_cut = true;
                at
            });
            assert_eq!(effects, recording.effects, "flight {index} cut at {at}");
        }
    }
}

#[test]
fn frames_that_share_a_message_or_are_spread_over_many_read_the_same() {
    let receipts: Vec<_> = (0..5)
        .map(|id| Node::new("receipt").attr("id", format!("R{id}")).attr_jid("from", jid("1@s.whatsapp.net")))
        .collect();
    for piece in [1, 2, 3, 4, 7, 1000] {
        let mut world = World::online();
        for receipt in &receipts {
            world.peer.send(receipt);
        }
        // The frames without the WebSocket around them: then around pieces of them.
        let mut bytes = std::mem::take(&mut world.peer.out);
        let mut stream = Vec::new();
        let mut input = &mut bytes[..];
        let mut decoder = runner_proto::ws::Decoder::new(runner_proto::ws::Role::Client);
        while let Some(runner_proto::ws::Message::Data(data)) = decoder.next(&mut input).expect("valid") {
            stream.extend_from_slice(data);
        }
        for part in stream.chunks(piece) {
            runner_proto::ws::write_message(
                &mut world.peer.out,
                runner_proto::ws::Opcode::Binary,
                part,
                None,
            );
        }
        world.exchange();
        assert_eq!(world.peer.received_with("ack").len(), 5, "pieces of {piece}");
    }
}

#[test]
fn a_first_connections_chain_resumes_the_second() {
    let mut first = World::new(device());
    first.open();
    let chain = first.writes().find_map(|write| match write {
        runner_client::Write::ServerChain(chain) => Some(CachedServerKey::from(chain)),
        _ => None,
    });
    let mut again = device();
    again.server_key = chain;
    again.counters = *first.client.counters();
    let mut second = World::new(again);
    second.open();
    assert_eq!(second.peer.pattern, Some(runner_proto::noise::Pattern::Ik));
    assert_eq!(second.peer.login.as_ref().and_then(|login| login.username), Some(15_550_001_111));
    assert_eq!(second.client.counters().requests_sent, 10, "counters go on");
}
