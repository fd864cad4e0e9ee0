//! Whatever the store and the network do to a stream of messages, each is delivered once.

mod support;

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use runner_client::memory_store::MemoryStore;
use runner_proto::{node::Node, phase::Phase};
use support::{World, contact::Contact, device, device_keys};

const CONTACTS: [&str; 3] =
    ["15550002222:3@s.whatsapp.net", "15550003333@s.whatsapp.net", "700000000004:1@lid"];

#[derive(Clone, Debug)]
enum Op {
    /// A contact writes; the server has it.
    Say(usize),
    /// The server gives the oldest message that it has not given on this connection.
    Give,
    /// It gives one of the others first.
    GiveLater(usize),
    /// It gives one again that was not answered, or was.
    GiveAgain(usize),
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
    prop_oneof![
        6 => (0..CONTACTS.len()).prop_map(Op::Say),
        6 => Just(Op::Give),
        2 => any::<usize>().prop_map(Op::GiveLater),
        1 => any::<usize>().prop_map(Op::GiveAgain),
        8 => Just(Op::Answer),
        4 => Just(Op::AnswerAhead),
        1 => any::<bool>().prop_map(|only_commits| Op::Fail { only_commits }),
        1 => Just(Op::Reconnect),
        1 => any::<usize>().prop_map(Op::Kill),
    ]
}

/// The server's side: what it must see answered.
struct Server {
    contacts: Vec<Contact>,
    /// Id and stanza of all that was ever said.
    said: Vec<(String, Node)>,
    /// Places in `said` that were not answered, in their order.
    owed: Vec<usize>,
    /// Those of them that this connection was given.
    given: HashSet<usize>,
}

impl Server {
    fn new() -> Self {
        let contacts = CONTACTS.iter().zip(50..).map(|(jid, seed)| {
            let mut contact = Contact::new(jid, seed);
            contact.begin(&device_keys(), None);
            contact
        });
        Self { contacts: contacts.collect(), said: Vec::new(), owed: Vec::new(), given: HashSet::new() }
    }

    fn say(&mut self, contact: usize) {
        let id = format!("M{}", self.said.len());
        let stanza = self.contacts[contact].message(&id, &format!("text of {id}"));
        self.owed.push(self.said.len());
        self.said.push((id, stanza));
    }

    fn hear(&mut self, world: &mut World) {
        let answered: HashSet<_> = world
            .peer
            .received
            .drain(..)
            .filter(|stanza| stanza.tag == "receipt" || stanza.tag == "ack")
            .inspect(|stanza| {
                let kind = stanza.find_attr("type").map(ToString::to_string);
                assert_ne!(kind.as_deref(), Some("retry"), "all of it can be read");
            })
            .filter_map(|stanza| stanza.find_attr("id").map(ToString::to_string))
            .collect();
        let said = &self.said;
        self.owed.retain(|place| !answered.contains(&said[*place].0));
        // What the server is told to be kept is kept.
        for id in answered {
            let is_kept = world.store.delivered.iter().any(|(_, _, kept)| *kept == id);
            assert!(is_kept, "{id} was answered and is not durable");
        }
    }
}

fn connect(store: MemoryStore) -> World {
    let mut world = World::new(device());
    world.open();
    assert_eq!(world.client.phase(), Phase::Online);
    world.peer.received.clear();
    world.store = store;
    world.is_manual = true;
    world
}

fn reconnect(world: &mut World, server: &mut Server) {
    let mut store = std::mem::take(&mut world.store);
    store.open.clear();
    *world = connect(store);
    server.given.clear();
}

fn apply(op: &Op, world: &mut World, server: &mut Server) {
    let pick = |from: &[usize], n: usize| (!from.is_empty()).then(|| from[n % from.len()]);
    match *op {
        Op::Say(contact) => server.say(contact),
        Op::Give | Op::GiveLater(_) => {
            let left: Vec<_> =
                server.owed.iter().copied().filter(|place| !server.given.contains(place)).collect();
            let n = if let Op::GiveLater(n) = op { *n } else { 0 };
            if let Some(place) = pick(&left, n) {
                server.given.insert(place);
                world.push(&server.said[place].1);
            }
        }
        Op::GiveAgain(n) => {
            let all: Vec<_> = (0..server.said.len()).collect();
            if let Some(place) = pick(&all, n) {
                server.given.insert(place);
                world.push(&server.said[place].1);
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
            // The store answers what it was asked for, to nobody.
            while world.store.answer().is_some() {}
            reconnect(world, server);
        }
        Op::Kill(n) => {
            let happened = n % (world.store.open.len() + 1);
            (0..happened).for_each(|_| drop(world.store.answer()));
            reconnect(world, server);
        }
    }
    server.hear(world);
}

fn run(ops: &[Op]) {
    let (mut world, mut server) = (connect(MemoryStore::default()), Server::new());
    for op in ops {
        apply(op, &mut world, &mut server);
    }
    // A quiet end: everything is given until everything is answered.
    for _ in 0..3 {
        while world.answer() {}
        server.hear(&mut world);
        reconnect(&mut world, &mut server);
        for place in server.owed.clone() {
            world.push(&server.said[place].1);
        }
    }
    while world.answer() {}
    server.hear(&mut world);
    assert!(server.owed.is_empty(), "{:?} are never answered", server.owed);
    let delivered: HashMap<&str, &Vec<u8>> = world
        .store
        .delivered
        .iter()
        .map(|name| (name.2.as_str(), world.store.inbox[name].as_ref().expect("a content")))
        .collect();
    assert_eq!(world.store.delivered.len(), server.said.len(), "each once");
    for (id, _) in &server.said {
        assert_eq!(delivered[id.as_str()][2..], *format!("text of {id}").as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Pains 3 and 4.
    #[test]
    fn every_message_is_delivered_once_and_answered_when_it_is_durable(ops in prop::collection::vec(op(), 1..250)) {
        run(&ops);
    }
}

/// The third waits behind the second, whose sender's records are being loaded, and needs those that the first has
/// changed, which was not kept.
#[test]
fn a_message_behind_a_failed_commit_does_not_use_up_the_one_that_failed() {
    use Op::{Answer, Fail, Give, Reconnect, Say};
    let mut ops = vec![Say(0), Give];
    ops.extend(vec![Answer; 9]);
    ops.extend([Say(0), Give, Answer, Say(1), Give, Say(0), Give]);
    ops.push(Fail { only_commits: true });
    ops.extend(vec![Answer; 9]);
    ops.push(Reconnect);
    run(&ops);
}
