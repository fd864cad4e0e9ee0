//! Whatever the store, the network and the members of a group do while texts are sent to it: no key is used twice, whoever
//! is in it reads, whoever left before a text was asked for does not, and every text has one outcome.

mod support;

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use runner_client::{Command, Event, Outgoing, memory_store::MemoryStore};
use runner_proto::{
    node::{Node, NodeContent},
    phase::Phase,
};
use runner_signal::{PreKeySignalMessage, PublicKey, SignalMessage};
use support::{
    Seeded, World,
    contact::text_message,
    device, jid,
    peer::{Directory, attr},
    reader::{Reader, key_of, skmsg},
};

const GROUP: &str = "120363000000000001@g.us";
const OWN: &str = "15550001111@s.whatsapp.net";
/// Three users, of whom the first has two devices, and our other device.
const DEVICES: [&str; 5] = [
    "15550002222@s.whatsapp.net",
    "15550002222:7@s.whatsapp.net",
    "15550003333@s.whatsapp.net",
    "15550004444@s.whatsapp.net",
    OWN,
];
const USERS: [&str; 3] = [DEVICES[0], DEVICES[2], DEVICES[3]];

#[derive(Clone, Debug)]
enum Op {
    Send,
    /// A user comes, or leaves; whether the server says so, or the connection breaks before.
    Member {
        user: usize,
        is_in: bool,
        is_told: bool,
    },
    /// The first user has a second device, or has it no more.
    Second(bool),
    /// A device asks for a text again, with keys or without.
    Retry {
        device: usize,
        text: usize,
        with_keys: bool,
    },
    /// A device has lost what it knew of us.
    Lose(usize),
    /// The server acknowledges messages, or does not.
    Acknowledge(bool),
    /// The store answers its oldest question.
    Answer,
    /// The store fails all that is open, or the commits and no load.
    Fail {
        only_commits: bool,
    },
    /// The connection is lost; the next one begins.
    Reconnect,
    /// The process is killed: what the store was asked for and has not answered may have happened, or not.
    Kill(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let device = || 0..DEVICES.len();
    prop_oneof![
        6 => Just(Op::Send),
        3 => (0..USERS.len(), any::<bool>(), any::<bool>())
            .prop_map(|(user, is_in, is_told)| Op::Member { user, is_in, is_told }),
        1 => any::<bool>().prop_map(Op::Second),
        2 => (device(), any::<usize>(), any::<bool>())
            .prop_map(|(device, text, with_keys)| Op::Retry { device, text, with_keys }),
        1 => device().prop_map(Op::Lose),
        1 => prop_oneof![3 => Just(true), 1 => Just(false)].prop_map(Op::Acknowledge),
        14 => Just(Op::Answer),
        1 => any::<bool>().prop_map(|only_commits| Op::Fail { only_commits }),
        1 => Just(Op::Reconnect),
        1 => any::<usize>().prop_map(Op::Kill),
    ]
}

/// One device, as the server and the test know it.
struct Seat {
    reader: Reader,
    /// Since which text it is one of a member, without a break; `None`: it is not.
    in_since: Option<usize>,
    /// From which text on it was none, when it was one last.
    left_at: usize,
    /// It has lost nothing.
    is_whole: bool,
}

impl Seat {
    fn set_in(&mut self, is_in: bool, texts: usize) {
        match (self.in_since, is_in) {
            (Some(_), false) => (self.in_since, self.left_at) = (None, texts),
            (None, true) => self.in_since = Some(texts),
            _ => {}
        }
    }
}

struct Outside {
    seats: Vec<Seat>,
    /// Of each user, and whether the first has a second device.
    is_in: [bool; 3],
    has_second: bool,
    texts: usize,
    connections: u64,
    /// What was on the wire for one device, by the key that it was encrypted with.
    used: HashSet<(PublicKey, u32)>,
    /// The same for all of the group, by sender key and number in its chain.
    used_in_group: HashMap<(u32, u32), String>,
    told: HashSet<u64>,
    lost: HashSet<u64>,
}

impl Outside {
    fn new() -> Self {
        let seat = |(at, device): (usize, &&str)| Seat {
            reader: Reader::new(device, 60 + at as u8),
            in_since: Some(0),
            left_at: 0,
            is_whole: true,
        };
        Self {
            seats: DEVICES.iter().enumerate().map(seat).collect(),
            is_in: [true; 3],
            has_second: true,
            texts: 0,
            connections: 0,
            used: HashSet::new(),
            used_in_group: HashMap::new(),
            told: HashSet::new(),
            lost: HashSet::new(),
        }
    }

    /// Who is there, as the server has it now.
    fn directory(&mut self) -> Directory {
        let [first, second, third] = self.is_in;
        let of = [first, first && self.has_second, second, third, true];
        for (seat, is_in) in self.seats.iter_mut().zip(of) {
            seat.set_in(is_in, self.texts);
        }
        let mut directory = Directory::default();
        for seat in &self.seats {
            let contact = &seat.reader.contact;
            directory.bundles.insert(contact.jid.to_string(), contact.bundle());
        }
        directory.set_devices(USERS[0], if self.has_second { &[0, 7] } else { &[0] });
        directory.set_devices(USERS[1], &[0]);
        directory.set_devices(USERS[2], &[0]);
        directory.set_devices(OWN, &[0, 3]);
        let there = USERS.iter().zip(self.is_in).filter(|(_, is_in)| *is_in).map(|(user, _)| *user);
        let members: Vec<_> = [OWN].into_iter().chain(there).collect();
        directory.set_group(GROUP, &members);
        directory
    }

    /// Looks at all that went over the wire since. Everybody listens, whether it is for them or not.
    fn hear(&mut self, world: &mut World) {
        for message in world.peer.received.drain(..).filter(|stanza| stanza.tag == "message") {
            let id = attr(&message, "id");
            let number: usize = id[1..].parse().expect("a number");
            let is_for_all = skmsg(&message).is_some();
            if is_for_all && let Some(other) = self.used_in_group.insert(key_of(&message), id.clone()) {
                panic!("{id} and {other} have one key");
            }
            for (seat, name) in self.seats.iter_mut().zip(DEVICES) {
                if let Some(enc) = seat.reader.contact.enc_for(&message) {
                    let NodeContent::Bytes(bytes) = &enc.content else { panic!("no ciphertext") };
                    let inner = match attr(&enc, "type").as_str() {
                        "pkmsg" => PreKeySignalMessage::parse(bytes).expect("ours").message,
                        _ => SignalMessage::parse(bytes).expect("ours"),
                    };
                    assert!(self.used.insert((inner.ratchet_key, inner.counter)), "a key twice, in {id}");
                }
                let heard = seat.reader.hear(&message);
                if let Some(heard) = &heard {
                    assert_eq!(*heard, text_message(&format!("text {id}")), "{id} says something else");
                }
                let had_left = seat.in_since.is_none() && seat.left_at <= number;
                assert!(!is_for_all || heard.is_none() || !had_left, "{name} reads {id} and had left");
                let was_there = seat.in_since.is_some_and(|since| since <= number);
                if is_for_all && was_there && seat.is_whole {
                    assert!(heard.is_some(), "{name} does not read {id}");
                }
            }
        }
        for event in world.events() {
            if let Event::Sent { token, .. } = event {
                assert!(self.told.insert(*token), "told twice");
            }
        }
        world.forget_effects();
    }
}

fn connect(store: MemoryStore, outside: &mut Outside) -> World {
    let mut world = World::new(device());
    outside.connections += 1;
    world.entropy = Seeded(1000 + outside.connections * 1_000_003);
    world.open();
    assert_eq!(world.client.phase(), Phase::Online);
    world.peer.received.clear();
    (world.store, world.peer.directory) = (store, outside.directory());
    world.is_manual = true;
    world.forget_effects();
    world
}

fn reconnect(world: &mut World, outside: &mut Outside) {
    outside.hear(world);
    let mut store = std::mem::take(&mut world.store);
    store.open.clear();
    let asked = 0..outside.texts as u64;
    outside.lost.extend(asked.filter(|token| !outside.told.contains(token)));
    *world = connect(store, outside);
}

fn send(world: &mut World, outside: &mut Outside) {
    let (token, id) = (outside.texts as u64, format!("M{}", outside.texts));
    let text = format!("text {id}");
    outside.texts += 1;
    let outgoing = Outgoing { token, chat: jid(GROUP), id, text, quoted: None };
    world.command(Command::SendText(Box::new(outgoing)));
}

fn notify(world: &mut World, kind: &str, from: &str) {
    let changed = Node::new("notification").attr("type", kind).attr("id", "1").attr("t", "1");
    world.push(&changed.attr_jid("from", jid(from)));
}

fn apply(op: &Op, world: &mut World, outside: &mut Outside) {
    match *op {
        Op::Send => send(world, outside),
        Op::Member { user, is_in, is_told } => {
            outside.hear(world);
            outside.is_in[user] = is_in;
            if is_told {
                world.peer.directory = outside.directory();
                notify(world, "w:gp2", GROUP);
            } else {
                reconnect(world, outside);
            }
        }
        Op::Second(has) => {
            outside.hear(world);
            outside.has_second = has;
            world.peer.directory = outside.directory();
            notify(world, "devices", USERS[0]);
        }
        Op::Retry { device, text, with_keys } => {
            if outside.texts > 0 {
                let id = format!("M{}", text % outside.texts);
                let reader = &outside.seats[device].reader;
                let receipt = reader.retry(GROUP, &id, 1, u32::from(!with_keys), with_keys);
                world.push(&receipt);
            }
        }
        Op::Lose(device) => {
            outside.hear(world);
            let seat = &mut outside.seats[device];
            seat.reader.contact.forget_session();
            seat.reader.forget_keys();
            seat.is_whole = false;
        }
        Op::Acknowledge(does) => world.peer.script.acknowledges_messages = does,
        Op::Answer => {
            world.answer();
        }
        Op::Fail { only_commits } => world.fail(only_commits),
        Op::Reconnect => {
            while world.store.answer().is_some() {}
            reconnect(world, outside);
        }
        Op::Kill(n) => {
            let happened = n % (world.store.open.len() + 1);
            (0..happened).for_each(|_| drop(world.store.answer()));
            reconnect(world, outside);
        }
    }
    outside.hear(world);
}

fn run(ops: &[Op]) {
    let mut outside = Outside::new();
    let mut world = connect(MemoryStore::default(), &mut outside);
    for op in ops {
        apply(op, &mut world, &mut outside);
    }
    // A quiet end: everybody who is there reads the last text, at once or when they have asked for it.
    while world.answer() {}
    reconnect(&mut world, &mut outside);
    send(&mut world, &mut outside);
    while world.answer() {}
    let id = format!("M{}", outside.texts - 1);
    let on_wire = world.peer.received_with("message").into_iter().find(|it| attr(it, "id") == id);
    let on_wire = on_wire.expect("it was sent").clone();
    for (place, name) in DEVICES.iter().enumerate() {
        let seat = &mut outside.seats[place];
        let mut heard = seat.reader.hear(&on_wire);
        if seat.in_since.is_none() {
            assert_eq!(heard, None, "{name} had left");
            continue;
        }
        if heard.is_none() {
            let receipt = seat.reader.retry(GROUP, &id, 2, 0, true);
            world.push(&receipt);
            while world.answer() {}
            let again = world.peer.received_with("message").into_iter().rev();
            heard = again.filter(|it| *it != &on_wire).find_map(|message| seat.reader.hear(message));
        }
        assert!(heard.is_some(), "{name} never reads {id}");
    }
    world.peer.received.clear();
    outside.hear(&mut world);
    for token in 0..outside.texts as u64 {
        assert!(outside.told.contains(&token) || outside.lost.contains(&token), "{token} has no outcome");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_key_is_used_twice_and_who_is_in_the_group_reads_and_who_left_does_not(
        ops in prop::collection::vec(op(), 1..200)
    ) {
        run(&ops);
    }
}
