//! Texts to groups: whoever is in one reads them, whoever left does not, and each is told our sender key once.

mod support;

use std::time::Duration;

use runner_client::{
    Command, CommitFailed, Event, MAX_MEMBERS, Outgoing, Quoted, Receipt, RecordKey, RecordKind, SendFailure,
    Write,
    content::{Kind, View},
};
use runner_proto::node::{Node, NodeContent};
use support::{
    World,
    contact::text_message,
    jid,
    peer::attr,
    reader::{Reader, key_of},
};

const GROUP: &str = "120363000000000001@g.us";
const ANNA: &str = "15550002222@s.whatsapp.net";
const BEN: &str = "15550003333@s.whatsapp.net";
const OWN: &str = "15550001111@s.whatsapp.net";

/// A group of us, of somebody with two devices, and of somebody with one.
struct Group {
    world: World,
    /// Anna's phone and laptop, Ben's phone, our phone.
    readers: Vec<Reader>,
}

impl Group {
    fn new() -> Self {
        Self::of(&[(ANNA, 0, 21), ("15550002222:7@s.whatsapp.net", 7, 22), (BEN, 0, 23), (OWN, 0, 24)])
    }

    fn of(devices: &[(&str, u16, u8)]) -> Self {
        let mut world = World::online();
        let readers: Vec<_> = devices.iter().map(|(device, _, seed)| Reader::new(device, *seed)).collect();
        let directory = &mut world.peer.directory;
        directory.set_devices(ANNA, &[0, 7]);
        directory.set_devices(BEN, &[0]);
        directory.set_devices(OWN, &[0, 3]);
        directory.set_group(GROUP, &[ANNA, BEN, OWN]);
        let mut group = Self { world, readers };
        (0..devices.len()).for_each(|at| group.publish(at));
        group
    }

    /// A group of that many, with one device each, and the user.
    fn of_many(count: usize) -> (Self, Vec<String>) {
        let mut group = Self::of(&[]);
        let users: Vec<_> = (0..count).map(|n| format!("1555100{n:04}@s.whatsapp.net")).collect();
        for (n, user) in users.iter().enumerate() {
            group.readers.push(Reader::new(user, n as u8));
            group.publish(n);
            group.world.peer.directory.set_devices(user, &[0]);
        }
        let members: Vec<_> = users.iter().map(String::as_str).chain([OWN]).collect();
        group.world.peer.directory.set_group(GROUP, &members);
        (group, users)
    }

    /// A hundred of them, and a store that answers when it is told to.
    fn of_a_hundred() -> (Self, Vec<String>) {
        let (mut group, users) = Self::of_many(100);
        group.world.is_manual = true;
        (group, users)
    }

    /// Until the first of a hundred have their copies.
    fn answer_until_some_are_told(&mut self) {
        while self.record(RecordKind::Session, "15551000000.0").is_none() {
            assert!(self.world.answer(), "nobody is told");
        }
    }

    /// The server has the keys of a device.
    fn publish(&mut self, at: usize) {
        let contact = &self.readers[at].contact;
        self.world.peer.directory.bundles.insert(contact.jid.to_string(), contact.bundle());
    }

    /// Somebody new comes, with one device.
    fn join(&mut self, user: &str, seed: u8) -> usize {
        self.readers.push(Reader::new(user, seed));
        self.publish(self.readers.len() - 1);
        self.world.peer.directory.set_devices(user, &[0]);
        self.readers.len() - 1
    }

    fn set_members(&mut self, members: &[&str]) {
        self.world.peer.directory.set_group(GROUP, members);
        let change = Node::new("notification").attr("type", "w:gp2").attr("id", "1").attr("t", "1");
        self.world.push(&change.attr_jid("from", jid(GROUP)).child(Node::new("add")));
    }

    fn send(&mut self, token: u64, id: &str, text: &str) {
        let outgoing = Outgoing { token, chat: jid(GROUP), id: id.into(), text: text.into(), quoted: None };
        self.world.command(Command::SendText(Box::new(outgoing)));
    }

    fn messages(&self, id: &str) -> Vec<Node> {
        let messages = self.world.peer.received_with("message");
        messages.into_iter().filter(|message| attr(message, "id") == id).cloned().collect()
    }

    /// The newest message on the wire with this id.
    fn message(&self, id: &str) -> Node {
        self.messages(id).pop().unwrap_or_else(|| panic!("{id} was not sent"))
    }

    /// Who reads a message.
    fn hear(&mut self, id: &str, text: &str) -> Vec<usize> {
        let message = self.message(id);
        let read = |(at, reader): (usize, &mut Reader)| {
            let heard = reader.hear(&message)?;
            assert_eq!(heard, text_message(text), "{id} says something else");
            Some(at)
        };
        self.readers.iter_mut().enumerate().filter_map(read).collect()
    }

    fn told(&self, id: &str) -> Vec<usize> {
        let message = self.message(id);
        (0..self.readers.len()).filter(|at| self.readers[*at].is_told(&message)).collect()
    }

    fn asked(&self) -> Vec<String> {
        self.world.peer.directory.asked.iter().map(|iq| attr(iq, "xmlns")).collect()
    }

    fn outcomes(&self) -> Vec<(u64, Result<Receipt, SendFailure>)> {
        let of = self.world.events().filter_map(|event| match event {
            Event::Sent { token, outcome } => Some((*token, *outcome)),
            _ => None,
        });
        of.collect()
    }

    fn last_outcome(&self) -> Result<Receipt, SendFailure> {
        self.outcomes().pop().expect("an outcome").1
    }

    fn acknowledge(&mut self, id: &str, more: &[(&str, &str)]) {
        let ack = Node::new("ack").attr("class", "message").attr("id", id).attr("t", "1767225600");
        self.world.push(&more.iter().fold(ack, |ack, (key, value)| ack.attr(*key, *value)));
    }

    fn record(&self, kind: RecordKind, id: &str) -> Option<Vec<u8>> {
        let key = RecordKey { kind, id: id.into() };
        self.world.store.records.get(&key).map(|(value, _)| value.expose().to_vec())
    }

    /// The next connection, with what the store has.
    fn reconnect(&mut self) {
        let store = std::mem::take(&mut self.world.store);
        let directory = std::mem::take(&mut self.world.peer.directory);
        let (now, seed) = (self.world.now, self.world.entropy.0);
        self.world = World::new(support::device());
        self.world.entropy = support::Seeded(seed ^ 99);
        self.world.open();
        self.world.peer.received.clear();
        (self.world.store, self.world.peer.directory, self.world.now) = (store, directory, now);
    }
}

fn has_child(node: &Node, tag: &str) -> bool {
    matches!(&node.content, NodeContent::Nodes(children) if children.iter().any(|child| child.tag == tag))
}

const ACK: Result<Receipt, SendFailure> = Ok(Receipt { server_unix_s: Some(1_767_225_600) });
const ALL: [usize; 4] = [0, 1, 2, 3];
const NOBODY: [usize; 0] = [];

#[test]
fn a_first_message_tells_every_device_our_sender_key_and_all_of_them_read_it() {
    let mut group = Group::new();
    group.send(5, "A", "hello");
    let message = group.message("A");
    assert_eq!((attr(&message, "to"), attr(&message, "type")), (GROUP.into(), "text".into()));
    assert_eq!(attr(&message, "addressing_mode"), "pn");
    assert_eq!(attr(&message, "phash").len(), 10);
    assert!(has_child(&message, "device-identity"), "whoever hears of us first is shown who we are");
    assert_eq!(group.asked(), ["w:g2", "usync", "encrypt"]);
    assert_eq!(group.told("A"), ALL);
    assert_eq!(group.hear("A", "hello"), ALL);
    assert_eq!(group.outcomes(), [(5, ACK)]);
    let counters = group.world.client.counters();
    assert_eq!((counters.messages_sent, counters.sends_failed), (1, 0));
}

#[test]
fn the_next_message_tells_nobody_and_asks_for_nothing() {
    let mut group = Group::new();
    group.send(1, "A", "one");
    group.hear("A", "one");
    group.send(2, "B", "two");
    let second = group.message("B");
    assert!(!has_child(&second, "participants") && !has_child(&second, "device-identity"));
    assert_eq!(group.hear("B", "two"), ALL);
    assert_eq!(group.asked(), ["w:g2", "usync", "encrypt"]);
    // An hour later it asks who is there, and for no keys.
    group.world.advance(Duration::from_secs(3600));
    group.send(3, "C", "three");
    assert_eq!(group.asked(), ["w:g2", "usync", "encrypt", "w:g2", "usync"]);
    assert!(!has_child(&group.message("C"), "participants"));
}

/// Who is there is asked again: that somebody left may have been told the last connection, and lost with it.
#[test]
fn the_next_connection_goes_on_with_the_key_and_asks_who_is_there() {
    let mut group = Group::new();
    group.send(1, "A", "one");
    group.hear("A", "one");
    group.reconnect();
    group.send(2, "B", "two");
    assert!(!has_child(&group.message("B"), "participants"));
    assert_eq!(key_of(&group.message("B")).1, 1, "the chain goes on");
    assert_eq!(group.hear("B", "two"), ALL);
    assert_eq!(group.asked(), ["w:g2", "usync", "encrypt", "w:g2", "usync"]);
    group.reconnect();
    group.world.peer.directory.set_group(GROUP, &[ANNA, OWN]);
    group.send(3, "C", "three");
    assert_eq!(group.hear("C", "three"), [0, 1, 3], "nobody had to say that he left");
}

#[test]
fn a_change_that_the_store_could_not_forget_is_asked_for() {
    let mut group = Group::new();
    group.send(1, "A", "one");
    group.hear("A", "one");
    group.world.commits = Some(Err(CommitFailed::Store));
    group.set_members(&[ANNA, OWN]);
    group.world.commits = Some(Ok(()));
    group.send(2, "B", "two");
    assert_eq!(group.hear("B", "two"), [0, 1, 3]);
}

#[test]
fn a_group_whose_members_are_called_by_lid_is_written_to_by_lid() {
    let mut group = Group::of(&[]);
    let (anna, us) = ("700000000002@lid", "900000000001@lid");
    let directory = &mut group.world.peer.directory;
    directory.set_devices(anna, &[0]);
    directory.set_devices(us, &[0, 3]);
    let entry = |jid_: &str, pn: &str| {
        Node::new("participant").attr_jid("jid", jid(jid_)).attr_jid("phone_number", jid(pn))
    };
    let node =
        Node::new("group").attr("addressing_mode", "lid").children([entry(anna, ANNA), entry(us, OWN)]);
    directory.groups.insert(GROUP.into(), Ok(node));
    group.readers = vec![Reader::new(anna, 31), Reader::new(us, 32)];
    group.publish(0);
    group.publish(1);
    group.send(1, "A", "hello");
    let message = group.message("A");
    assert_eq!(attr(&message, "addressing_mode"), "lid");
    assert_eq!(group.hear("A", "hello"), [0, 1]);
    assert!(group.record(RecordKind::SenderKey, &format!("{GROUP}--900000000001_1--3")).is_some());
    // By which the session is found when she writes from her phone number.
    assert_eq!(
        group.record(RecordKind::LidMapping, "15550002222").as_deref(),
        Some(&b"\"700000000002\""[..])
    );
    assert!(group.record(RecordKind::Session, "700000000002_1.0").is_some());
}

#[test]
fn a_reply_in_a_group_says_who_wrote_what_it_answers() {
    let mut group = Group::new();
    let sender = jid("15550002222:7@s.whatsapp.net");
    let quoted = Quoted { id: "Q".into(), sender, content: text_message("are you there?") };
    let (token, text) = (1, "yes".into());
    let outgoing = Outgoing { token, chat: jid(GROUP), id: "A".into(), text, quoted: Some(quoted) };
    group.world.command(Command::SendText(Box::new(outgoing)));
    let message = group.message("A");
    let heard = group.readers[2].hear(&message).expect("read");
    let view = View::read(&heard).expect("a message");
    assert_eq!((view.kind, view.text), (Kind::Text, Some("yes")));
    let key = view.quoted.expect("a quote");
    assert_eq!((key.id, key.participant), (Some("Q"), Some(ANNA)));
}

#[test]
fn a_message_leaves_when_the_chain_behind_it_is_durable_and_not_before() {
    let mut group = Group::new();
    group.world.commits = None;
    group.send(1, "A", "hello");
    assert!(group.messages("A").is_empty());
    let written: Vec<_> = group
        .world
        .writes()
        .filter_map(|write| match write {
            Write::PutRecord { key, .. } => Some(key.kind),
            _ => None,
        })
        .collect();
    let count = |kind| written.iter().filter(|of| **of == kind).count();
    assert_eq!(
        (count(RecordKind::SenderKey), count(RecordKind::Session), count(RecordKind::Holders)),
        (1, 4, 1)
    );
    group.world.commits = Some(Ok(()));
    group.world.exchange();
    assert_eq!(group.outcomes(), [(1, ACK)]);
}

#[test]
fn a_commit_that_fails_sends_nothing_and_the_next_message_uses_another_key() {
    let mut group = Group::new();
    group.send(1, "A", "one");
    group.hear("A", "one");
    group.world.commits = Some(Err(CommitFailed::Store));
    group.send(2, "B", "two");
    assert_eq!(group.last_outcome(), Err(SendFailure::Store));
    group.world.commits = Some(Ok(()));
    group.send(3, "C", "three");
    assert_eq!(group.hear("C", "three"), ALL);
    assert_eq!(key_of(&group.message("C")).1, 1, "that of a message that never left");
}

#[test]
fn somebody_new_is_told_the_key_that_there_is_and_reads_from_then_on() {
    let mut group = Group::new();
    group.send(1, "A", "one");
    group.hear("A", "one");
    let first = group.message("A");
    let carl = "15550004444@s.whatsapp.net";
    let at = group.join(carl, 25);
    group.set_members(&[ANNA, BEN, OWN, carl]);
    group.send(2, "B", "two");
    assert_eq!(group.told("B"), [at]);
    assert_eq!(group.hear("B", "two"), [0, 1, 2, 3, at]);
    assert_eq!(key_of(&group.message("B")).0, key_of(&first).0);
    assert_eq!(group.readers[at].hear(&first), None, "what was written before is not theirs");
}

#[test]
fn a_new_device_is_told_the_key_that_there_is() {
    let mut group = Group::new();
    group.send(1, "A", "one");
    group.hear("A", "one");
    group.readers.push(Reader::new("15550003333:4@s.whatsapp.net", 26));
    group.publish(4);
    group.world.peer.directory.set_devices(BEN, &[0, 4]);
    let notification = Node::new("notification").attr("type", "devices").attr("id", "1").attr("t", "1");
    group.world.push(&notification.attr_jid("from", jid(BEN)).child(Node::new("add")));
    group.send(2, "B", "two");
    assert_eq!(group.told("B"), [4]);
    assert_eq!(group.hear("B", "two"), [0, 1, 2, 3, 4]);
}

#[test]
fn after_somebody_left_there_is_a_new_key_which_they_are_not_told() {
    let mut group = Group::new();
    group.send(1, "A", "one");
    group.hear("A", "one");
    group.set_members(&[ANNA, OWN]);
    group.send(2, "B", "two");
    assert_ne!(key_of(&group.message("B")).0, key_of(&group.message("A")).0);
    assert_eq!(group.hear("B", "two"), [0, 1, 3]);
    group.send(3, "C", "three");
    assert_eq!(group.told("C"), NOBODY, "they have it");
    assert_eq!(group.hear("C", "three"), [0, 1, 3]);
}

#[test]
fn after_a_device_was_unlinked_there_is_a_new_key() {
    let mut group = Group::new();
    group.send(1, "A", "one");
    group.hear("A", "one");
    group.world.peer.directory.set_devices(ANNA, &[0]);
    let notification = Node::new("notification").attr("type", "devices").attr("id", "1").attr("t", "1");
    group.world.push(&notification.attr_jid("from", jid(ANNA)).child(Node::new("remove")));
    group.send(2, "B", "two");
    assert_eq!(group.told("B"), [0, 2, 3]);
    assert_eq!(group.hear("B", "two"), [0, 2, 3]);
}

/// Also when it is not known whether they got it.
#[test]
fn whoever_may_have_been_told_and_left_makes_the_key_old() {
    let mut group = Group::new();
    group.world.peer.script.acknowledges_messages = false;
    group.send(1, "A", "one");
    group.hear("A", "one");
    group.reconnect();
    group.set_members(&[ANNA, OWN]);
    group.send(2, "B", "two");
    assert_eq!(group.hear("B", "two"), [0, 1, 3]);
}

#[test]
fn whoever_is_not_known_to_have_been_told_is_told_again() {
    let mut group = Group::new();
    group.world.peer.script.acknowledges_messages = false;
    group.send(1, "A", "one");
    let first = key_of(&group.message("A"));
    group.reconnect();
    group.send(2, "B", "two");
    assert_eq!(group.told("B"), ALL);
    assert_eq!(group.hear("B", "two"), ALL, "the first was lost");
    assert_eq!(key_of(&group.message("B")), (first.0, first.1 + 1));
    group.send(3, "C", "three");
    assert_eq!(group.told("C"), NOBODY);
}

#[test]
fn messages_of_a_burst_wait_until_it_is_known_who_was_told() {
    let mut group = Group::new();
    group.world.peer.script.acknowledges_messages = false;
    for (token, id) in [(1, "A"), (2, "B"), (3, "C")] {
        group.send(token, id, "x");
    }
    assert!(group.messages("B").is_empty());
    group.acknowledge("A", &[]);
    assert_eq!(group.told("B"), NOBODY);
    assert_eq!(group.told("C"), NOBODY, "those who tell nobody do not wait for each other");
    group.acknowledge("B", &[]);
    group.acknowledge("C", &[]);
    let order: Vec<_> = group.world.peer.received_with("message").iter().map(|it| attr(it, "id")).collect();
    assert_eq!(order, ["A", "B", "C"]);
    assert_eq!(group.outcomes(), [(1, ACK), (2, ACK), (3, ACK)]);
}

#[test]
fn a_device_without_keys_is_left_out_and_asks_when_it_can() {
    let mut group = Group::new();
    group.world.peer.directory.bundles.remove(BEN);
    group.send(1, "A", "one");
    assert_eq!(group.hear("A", "one"), [0, 1, 3]);
    assert_eq!(group.outcomes(), [(1, ACK)]);
    let receipt = group.readers[2].retry(GROUP, "A", 1, 0, true);
    group.world.push(&receipt);
    assert_eq!(group.hear("A", "one"), [2]);
    group.publish(2);
    group.send(2, "B", "two");
    assert_eq!(group.hear("B", "two"), ALL);
}

/// A server that calls somebody by both addresses at once: the same session would be used twice.
#[test]
fn a_device_that_is_listed_by_both_addresses_is_told_once() {
    let mut group = Group::new();
    let anna = "700000000002@lid";
    group.world.peer.directory.set_devices(anna, &[0, 7]);
    let entry = |one: &str, key: &str, other: &str| {
        Node::new("participant").attr_jid("jid", jid(one)).attr_jid(key, jid(other))
    };
    let us = Node::new("participant").attr_jid("jid", jid(OWN));
    let by_both = [entry(ANNA, "lid", anna), entry(anna, "phone_number", ANNA), us.clone()];
    let by_one = [entry(ANNA, "lid", anna), Node::new("participant").attr_jid("jid", jid(anna)), us];
    for (token, members) in [(1, by_both), (2, by_one)] {
        let id = format!("M{token}");
        let directory = &mut group.world.peer.directory;
        directory.groups.insert(GROUP.into(), Ok(Node::new("group").children(members)));
        group.send(token, &id, "x");
        assert_eq!(group.last_outcome(), ACK);
        group.hear(&id, "x");
        group.world.advance(Duration::from_secs(3600));
    }
    assert_eq!(group.told("M1"), [0, 1, 3]);
    let NodeContent::Nodes(children) = group.message("M1").content else { panic!("children") };
    let NodeContent::Nodes(copies) = &children[0].content else { panic!("copies") };
    assert_eq!(copies.len(), 3);
}

#[test]
fn a_group_that_can_not_be_written_to_says_why() {
    let mut group = Group::new();
    let mut refused = |answer: Result<Node, u32>| {
        group.world.peer.directory.groups.insert(GROUP.into(), answer);
        let token = group.outcomes().len() as u64;
        group.send(token, &format!("M{token}"), "x");
        group.last_outcome()
    };
    let member = |jid_: &str| Node::new("participant").attr_jid("jid", jid(jid_));
    assert_eq!(refused(Err(403)), Err(SendFailure::NotAMember));
    assert_eq!(refused(Err(404)), Err(SendFailure::UnknownGroup));
    assert_eq!(refused(Err(429)), Err(SendFailure::Refused(429)));
    let large = (0..=MAX_MEMBERS).map(|n| member(&format!("{}@s.whatsapp.net", n + 1)));
    assert_eq!(refused(Ok(Node::new("group").children(large))), Err(SendFailure::GroupTooLarge));
    let without_us = Node::new("group").child(member(ANNA));
    assert_eq!(refused(Ok(without_us)), Err(SendFailure::NotAMember));
    assert!(group.world.peer.received_with("message").is_empty());
    assert_eq!(group.world.client.counters().sends_failed, 5);
}

#[test]
fn only_an_admin_writes_where_only_admins_do() {
    let mut group = Group::new();
    let member = |jid_: &str| Node::new("participant").attr_jid("jid", jid(jid_));
    let announcement = |us: Node| {
        Node::new("group").children([member(ANNA), member(BEN), us]).child(Node::new("announcement"))
    };
    let directory = &mut group.world.peer.directory;
    directory.groups.insert(GROUP.into(), Ok(announcement(member(OWN))));
    group.send(1, "A", "x");
    assert_eq!(group.last_outcome(), Err(SendFailure::AdminsOnly));
    let directory = &mut group.world.peer.directory;
    directory.groups.insert(GROUP.into(), Ok(announcement(member(OWN).attr("type", "superadmin"))));
    group.world.advance(Duration::from_secs(3600));
    group.send(2, "B", "x");
    assert_eq!(group.last_outcome(), ACK);
}

#[test]
fn a_group_that_calls_its_members_otherwise_now_is_asked_for_and_written_to_once_more() {
    let mut group = Group::new();
    group.world.peer.script.acknowledges_messages = false;
    group.send(1, "A", "hello");
    let directory = &mut group.world.peer.directory;
    let (anna, us) = ("700000000002@lid", "900000000001@lid");
    directory.set_devices(anna, &[0]);
    directory.set_devices(us, &[3]);
    directory.set_group(GROUP, &[anna, us]);
    group.readers = vec![Reader::new(anna, 31)];
    group.publish(0);
    group.acknowledge("A", &[("error", "421")]);
    assert_eq!(group.messages("A").len(), 2);
    assert_eq!(attr(&group.message("A"), "addressing_mode"), "lid");
    assert_eq!(group.hear("A", "hello"), [0]);
    assert_eq!(group.outcomes(), []);
    group.acknowledge("A", &[]);
    assert_eq!(group.outcomes(), [(1, ACK)]);
    // Not for ever.
    group.send(2, "B", "hello");
    group.acknowledge("B", &[("error", "421")]);
    group.acknowledge("B", &[("error", "421")]);
    assert_eq!(group.messages("B").len(), 2);
    assert_eq!(group.last_outcome(), Err(SendFailure::Refused(421)));
}

#[test]
fn a_server_that_knows_other_devices_is_asked_before_the_next_message() {
    let mut group = Group::new();
    group.world.peer.script.acknowledges_messages = false;
    group.send(1, "A", "one");
    group.acknowledge("A", &[("phash", &attr(&group.message("A"), "phash"))]);
    group.send(2, "B", "two");
    group.acknowledge("B", &[("phash", "2:other000")]);
    assert_eq!(group.outcomes(), [(1, ACK), (2, ACK)]);
    assert_eq!(group.asked(), ["w:g2", "usync", "encrypt"]);
    group.world.peer.directory.set_devices(ANNA, &[0]);
    group.send(3, "C", "three");
    assert_eq!(group.asked(), ["w:g2", "usync", "encrypt", "w:g2", "usync"]);
    group.hear("A", "one");
    assert_eq!(group.hear("C", "three"), [0, 2, 3]);
}

#[test]
fn an_answer_from_before_a_change_is_not_believed() {
    let mut group = Group::new();
    group.world.peer.script.answers_requests = false;
    group.send(1, "A", "one");
    let asked = group.world.peer.received_with("iq").pop().expect("who is in the group").clone();
    assert_eq!(attr(&asked, "to"), GROUP);
    group.world.peer.script.answers_requests = true;
    group.set_members(&[ANNA, OWN]);
    assert_eq!(group.told("A"), [0, 1, 3]);
}

#[test]
fn a_device_that_could_not_read_is_sent_the_same_again_and_is_told_the_key_anew() {
    let mut group = Group::new();
    group.send(1, "A", "hello");
    group.hear("A", "hello");
    group.readers[0].forget_keys();
    group.readers[0].contact.forget_session();
    group.send(2, "B", "lost");
    assert_eq!(group.hear("B", "lost"), [1, 2, 3]);
    group.world.peer.received.clear();
    let receipt = group.readers[0].retry(GROUP, "B", 1, 1, false);
    group.world.push(&receipt);
    let again = group.message("B");
    assert_eq!((attr(&again, "to"), attr(&again, "participant")), (GROUP.into(), ANNA.into()));
    let enc = group.readers[0].contact.enc_for(&again).expect("a copy");
    assert_eq!((attr(&enc, "type"), attr(&enc, "count")), ("pkmsg".into(), "1".into()));
    assert!(has_child(&again, "device-identity"));
    assert_eq!(group.hear("B", "lost"), [0]);
    group.send(3, "C", "three");
    assert_eq!(group.told("C"), [0], "it is told once more with the next");
    assert_eq!(group.hear("C", "three"), ALL);
    group.send(4, "D", "four");
    assert_eq!(group.told("D"), NOBODY);
    assert_eq!(group.world.client.counters().messages_resent, 1);
}

#[test]
fn an_own_device_that_could_not_read_is_sent_the_same_again() {
    let mut group = Group::new();
    group.send(1, "A", "hello");
    let receipt = group.readers[3].retry(GROUP, "A", 2, 0, true);
    group.world.push(&receipt);
    assert_eq!(attr(&group.message("A"), "participant"), OWN);
    assert_eq!(group.hear("A", "hello"), [3]);
}

#[test]
fn only_who_was_there_then_and_is_there_now_is_sent_a_message_again() {
    let mut group = Group::new();
    group.send(1, "A", "hello");
    let carl = "15550004444@s.whatsapp.net";
    let at = group.join(carl, 25);
    let ask = |group: &mut Group, at: usize| {
        let before = group.world.client.counters().messages_resent;
        let receipt = group.readers[at].retry(GROUP, "A", 1, 0, true);
        group.world.push(&receipt);
        group.world.client.counters().messages_resent - before
    };
    assert_eq!(ask(&mut group, at), 0, "a stranger");
    group.set_members(&[ANNA, BEN, OWN, carl]);
    assert_eq!(ask(&mut group, at), 0, "not there then");
    assert_eq!(ask(&mut group, 2), 1);
    group.set_members(&[ANNA, OWN, carl]);
    assert_eq!(ask(&mut group, 2), 0, "not there now");
    // A device that its account does not have.
    group.readers.push(Reader::new("15550002222:9@s.whatsapp.net", 27));
    assert_eq!(ask(&mut group, 5), 0);
    group.world.peer.directory.set_devices(ANNA, &[0, 7, 9]);
    group.world.advance(Duration::from_secs(1));
    assert_eq!(ask(&mut group, 5), 1, "one that has just been linked");
    assert_eq!(ask(&mut group, 0), 1);
    for _ in 0..10 {
        ask(&mut group, 0);
    }
    assert_eq!(group.world.client.counters().messages_resent, 1 + 1 + 5, "five times each");
}

#[test]
fn a_member_that_was_linked_anew_makes_the_key_old_when_it_asks() {
    let mut group = Group::new();
    group.send(1, "A", "hello");
    group.hear("A", "hello");
    group.readers[0].contact.link_anew(51);
    group.readers[0].forget_keys();
    group.publish(0);
    let receipt = group.readers[0].retry(GROUP, "A", 1, 0, true);
    group.world.push(&receipt);
    assert_eq!(group.hear("A", "hello"), [0]);
    group.send(2, "B", "two");
    assert_eq!(group.told("B"), ALL);
    assert_ne!(key_of(&group.messages("B")[0]).0, key_of(&group.messages("A")[0]).0);
    assert_eq!(group.hear("B", "two"), ALL);
}

/// Three hundred members: their keys are used a few dozen at a time.
#[test]
fn a_large_group_is_told_in_slices_and_other_sessions_do_not_wait_for_it() {
    let (mut group, _) = Group::of_many(300);
    group.send(1, "A", "hello");
    assert_eq!(group.outcomes(), [(1, ACK)]);
    let bundles = group.asked().iter().filter(|it| *it == "encrypt").count();
    let lists = group.asked().iter().filter(|it| *it == "usync").count();
    assert_eq!((lists, bundles), (2, 2), "256 at once");
    let most = group.world.effects.iter().filter_map(|effect| match effect {
        runner_client::Effect::Commit { writes, .. } => {
            let is_session = |write: &&Write| {
                matches!(write, Write::PutRecord { key, .. } if key.kind == RecordKind::Session)
            };
            Some(writes.iter().filter(is_session).count())
        }
        _ => None,
    });
    assert_eq!(most.max(), Some(24));
    assert_eq!(group.hear("A", "hello").len(), 300);
    group.send(2, "B", "two");
    assert_eq!(group.told("B"), NOBODY);
    assert_eq!(group.hear("B", "two").len(), 300);
}

#[test]
fn somebody_who_leaves_while_others_are_told_is_not_told() {
    let (mut group, users) = Group::of_a_hundred();
    let members: Vec<_> = users.iter().map(String::as_str).chain([OWN]).collect();
    group.send(1, "A", "hello");
    group.answer_until_some_are_told();
    assert!(group.messages("A").is_empty());
    group.set_members(&members[1..]);
    while group.world.answer() {}
    assert_eq!(group.told("A").len(), 99);
    assert_eq!(group.hear("A", "hello"), (1..100).collect::<Vec<_>>());
}

#[test]
fn keys_that_nobody_asked_for_are_not_kept() {
    let (mut group, _) = Group::of_a_hundred();
    let stranger = Reader::new("15550009999@s.whatsapp.net", 51).contact.bundle();
    group.world.peer.directory.unasked = vec![stranger];
    group.send(1, "A", "hello");
    group.answer_until_some_are_told();
    let held = format!("{:?}", group.world.client);
    assert!(held.contains("15551000099") && !held.contains("15550009999"), "{held}");
    while group.world.answer() {}
    assert_eq!(group.hear("A", "hello").len(), 100);
}

#[test]
fn nothing_of_a_message_to_a_group_stays_in_memory() {
    let mut group = Group::new();
    group.send(1, "A", "hello");
    assert_eq!(group.outcomes(), [(1, ACK)]);
    assert!(format!("{:?}", group.world.client).contains("sender: None"));
    assert!(format!("{:?}", group.world.client).contains("entries: {}"));
}
