//! Whatever the store, the network and the contacts do while texts are sent, no message key is used twice, what is on the
//! wire can be read, and every text has one outcome.

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
    contact::{Contact, text_message},
    device, device_keys, jid,
    peer::{Directory, attr},
};

const OWN: &str = "15550001111@s.whatsapp.net";
/// Two chats, of which one has two devices, and our other device.
const DEVICES: [&str; 4] =
    ["15550002222@s.whatsapp.net", "15550002222:7@s.whatsapp.net", "15550003333@s.whatsapp.net", OWN];
const CHATS: [&str; 2] = [DEVICES[0], DEVICES[2]];

#[derive(Clone, Debug)]
enum Op {
    /// A text for a chat.
    Send(usize),
    /// A device writes to us, so that its session moves on.
    Say(usize),
    /// A device asks for a text again, with keys or without.
    Retry { device: usize, text: usize, with_keys: bool },
    /// A device has lost its session, or was linked anew.
    Lose { device: usize, is_linked_anew: bool },
    /// The first chat has one device more, or one less.
    Devices(bool),
    /// The server has the keys of a device, or has none.
    Keys { device: usize, has: bool },
    /// The store answers its oldest question.
    Answer,
    /// It waits for a lock, and answers a load that nothing in front of it concerns.
    AnswerAhead,
    /// The store fails all that is open, or the commits and no load.
    Fail { only_commits: bool },
    /// The connection is lost; the next one begins.
    Reconnect,
    /// The process is killed: what the store was asked for and has not answered may have happened, or not.
    Kill(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let device = || 0..DEVICES.len();
    prop_oneof![
        6 => (0..CHATS.len()).prop_map(Op::Send),
        3 => device().prop_map(Op::Say),
        2 => (device(), any::<usize>(), any::<bool>())
            .prop_map(|(device, text, with_keys)| Op::Retry { device, text, with_keys }),
        1 => (device(), any::<bool>()).prop_map(|(device, is_linked_anew)| Op::Lose { device, is_linked_anew }),
        1 => any::<bool>().prop_map(Op::Devices),
        1 => (device(), any::<bool>()).prop_map(|(device, has)| Op::Keys { device, has }),
        12 => Just(Op::Answer),
        4 => Just(Op::AnswerAhead),
        1 => any::<bool>().prop_map(|only_commits| Op::Fail { only_commits }),
        1 => Just(Op::Reconnect),
        1 => any::<usize>().prop_map(Op::Kill),
    ]
}

struct Outside {
    contacts: Vec<Contact>,
    texts: usize,
    said: usize,
    connections: u64,
    linked: u8,
    /// What was on the wire, by the key that it was encrypted with.
    used: HashMap<(PublicKey, u32), Vec<u8>>,
    /// Tokens with an outcome.
    told: HashSet<u64>,
    /// Tokens of texts that were asked for on a connection that was lost without a word.
    lost: HashSet<u64>,
}

impl Outside {
    fn new() -> Self {
        let contacts = DEVICES.iter().zip(60..).map(|(jid, seed)| Contact::new(jid, seed));
        Self {
            contacts: contacts.collect(),
            texts: 0,
            said: 0,
            connections: 0,
            linked: 100,
            used: HashMap::new(),
            told: HashSet::new(),
            lost: HashSet::new(),
        }
    }

    fn directory(&self) -> Directory {
        let mut directory = Directory::default();
        directory.set_devices(CHATS[0], &[0, 7]);
        directory.set_devices(CHATS[1], &[0]);
        directory.set_devices(OWN, &[0, 3]);
        let bundles = self.contacts.iter().map(|contact| (contact.jid.to_string(), contact.bundle()));
        directory.bundles.extend(bundles);
        directory
    }

    /// Looks at all that went over the wire since, and lets the contacts read it.
    fn hear(&mut self, world: &mut World) {
        for message in world.peer.received.drain(..).filter(|stanza| stanza.tag == "message") {
            for contact in &mut self.contacts {
                let Some(enc) = contact.enc_for(&message) else { continue };
                let NodeContent::Bytes(bytes) = &enc.content else { panic!("no ciphertext") };
                let inner = match attr(&enc, "type").as_str() {
                    "pkmsg" => PreKeySignalMessage::parse(bytes).expect("ours").message,
                    _ => SignalMessage::parse(bytes).expect("ours"),
                };
                let key = (inner.ratchet_key, inner.counter);
                let before = self.used.insert(key, inner.ciphertext.to_vec());
                assert!(before.is_none(), "a message key was used twice, in {}", attr(&message, "id"));
                // What it cannot read was for the device that it was before.
                if let Some(heard) = contact.hear(&message) {
                    let id = attr(&message, "id");
                    let plain = text_message(&format!("text {id}"));
                    assert!(heard.windows(plain.len()).any(|part| part == plain), "{id} says something else");
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

fn connect(store: MemoryStore, outside: &mut Outside, directory: Directory) -> World {
    let mut world = World::new(device());
    outside.connections += 1;
    world.entropy = Seeded(1000 + outside.connections * 1_000_003);
    world.open();
    assert_eq!(world.client.phase(), Phase::Online);
    world.peer.received.clear();
    (world.store, world.peer.directory) = (store, directory);
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
    let directory = std::mem::take(&mut world.peer.directory);
    *world = connect(store, outside, directory);
}

fn send(world: &mut World, outside: &mut Outside, chat: usize) {
    let id = format!("M{}", outside.texts);
    let text = format!("text {id}");
    let token = outside.texts as u64;
    outside.texts += 1;
    let outgoing = Outgoing { token, chat: jid(CHATS[chat]), id, text, quoted: None };
    world.command(Command::SendText(Box::new(outgoing)));
}

fn apply(op: &Op, world: &mut World, outside: &mut Outside) {
    match *op {
        Op::Send(chat) => send(world, outside, chat),
        Op::Say(device) => {
            let id = format!("S{}", outside.said);
            outside.said += 1;
            let contact = &mut outside.contacts[device];
            if contact.has_no_session() {
                contact.begin(&device_keys(), None);
            }
            let message = contact.message(&id, "x");
            world.push(&message);
        }
        Op::Retry { device, text, with_keys } => {
            if outside.texts > 0 {
                let id = format!("M{}", text % outside.texts);
                let receipt = outside.contacts[device].retry(&id, 1, u32::from(!with_keys), with_keys);
                world.push(&receipt);
            }
        }
        Op::Lose { device, is_linked_anew } => {
            // What is on the wire was for the device as it was.
            outside.hear(world);
            let contact = &mut outside.contacts[device];
            if is_linked_anew {
                outside.linked += 1;
                contact.link_anew(outside.linked);
                let bundle = contact.bundle();
                if let Some(known) = world.peer.directory.bundles.get_mut(DEVICES[device]) {
                    *known = bundle;
                }
            } else {
                contact.forget_session();
            }
        }
        Op::Devices(both) => {
            let numbers: &[u16] = if both { &[0, 7] } else { &[0] };
            world.peer.directory.set_devices(CHATS[0], numbers);
            let changed = Node::new("notification").attr("type", "devices").attr("id", "1");
            world.push(&changed.attr_jid("from", jid(CHATS[0])));
        }
        Op::Keys { device, has } => {
            let bundle = outside.contacts[device].bundle();
            let bundles = &mut world.peer.directory.bundles;
            // An empty directory would answer like any other request.
            bundles.insert(
                "0@s.whatsapp.net".into(),
                Node::new("user").attr_jid("jid", jid("0@s.whatsapp.net")),
            );
            if has {
                bundles.insert(DEVICES[device].into(), bundle);
            } else {
                bundles.remove(DEVICES[device]);
            }
        }
        Op::Answer => {
            world.answer();
        }
        Op::AnswerAhead => {
            world.answer_ahead();
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
    let directory = outside.directory();
    let mut world = connect(MemoryStore::default(), &mut outside, directory);
    for op in ops {
        apply(op, &mut world, &mut outside);
    }
    // A quiet end: every device has keys, asks once for what it could not read, and hears the last text.
    while world.answer() {}
    outside.hear(&mut world);
    world.peer.directory = outside.directory();
    reconnect(&mut world, &mut outside);
    for (chat, user) in CHATS.iter().enumerate() {
        let changed = Node::new("notification").attr("type", "devices").attr("id", "1");
        world.push(&changed.attr_jid("from", jid(user)));
        send(&mut world, &mut outside, chat);
        while world.answer() {}
        let id = format!("M{}", outside.texts - 1);
        for (place, device) in DEVICES.iter().enumerate() {
            let on_wire = world.peer.received_with("message").into_iter().find(|it| attr(it, "id") == id);
            let on_wire = on_wire.expect("it was sent").clone();
            let contact = &mut outside.contacts[place];
            if contact.enc_for(&on_wire).is_none() {
                continue;
            }
            let mut heard = contact.hear(&on_wire);
            if heard.is_none() {
                let receipt = contact.retry(&id, 2, 0, true);
                world.push(&receipt);
                while world.answer() {}
                let again = world
                    .peer
                    .received_with("message")
                    .into_iter()
                    .rev()
                    .find_map(|message| outside.contacts[place].hear(message));
                heard = again;
            }
            assert!(heard.is_some(), "{device} never reads {id}");
        }
        world.peer.received.clear();
    }
    outside.hear(&mut world);
    for token in 0..outside.texts as u64 {
        assert!(outside.told.contains(&token) || outside.lost.contains(&token), "{token} has no outcome");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_message_key_is_used_twice_and_every_text_has_one_outcome(ops in prop::collection::vec(op(), 1..200)) {
        run(&ops);
    }
}
