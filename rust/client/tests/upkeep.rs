//! Our own keys at the server: compared, replaced in time, and kept for what is under way.

mod support;

use std::time::Duration;

use runner_client::{DeviceKeys, Event, RecordKey, RecordKind, Secret, Write};
use runner_proto::node::{Node, NodeContent};
use runner_signal::{PreKey, PublicKey, SignedPreKey, session};
use sha1::{Digest as _, Sha1};
use support::{World, contact::Contact, device, device_keys, put_key_state};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const PN: &str = "15550002222@s.whatsapp.net";

fn key(kind: RecordKind, id: impl ToString) -> RecordKey {
    RecordKey { kind, id: id.to_string() }
}

fn child<'a>(node: &'a Node, tag: &str) -> Option<&'a Node> {
    match &node.content {
        NodeContent::Nodes(children) => children.iter().find(|child| child.tag == tag),
        _ => None,
    }
}

fn bytes(node: &Node) -> &[u8] {
    match &node.content {
        NodeContent::Bytes(bytes) => bytes,
        content => panic!("bytes: {content:?}"),
    }
}

/// What was sent with a child of that tag.
fn sent<'a>(world: &'a World, tag: &'static str) -> Vec<&'a Node> {
    world.peer.received.iter().filter_map(|node| child(node, tag)).collect()
}

fn number(node: &Node) -> u32 {
    bytes(node).iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Id and public key of an `<skey>`.
fn signed(parent: &Node) -> (u32, PublicKey, [u8; 64]) {
    let skey = child(parent, "skey").expect("a signed pre-key");
    let value = bytes(child(skey, "value").expect("a value")).try_into().expect("32 bytes");
    let signature = bytes(child(skey, "signature").expect("a signature")).try_into().expect("64 bytes");
    (number(child(skey, "id").expect("an id")), PublicKey::new(value), signature)
}

/// A device's keys with another signed pre-key, as a peer is given them.
fn given(key: &SignedPreKey) -> DeviceKeys {
    DeviceKeys {
        signed_pre_key_id: key.id,
        signed_pre_key_secret: (*key.pair.expose()).into(),
        signed_pre_key_signature: key.signature,
        ..device_keys()
    }
}

fn stored(world: &World, id: u32) -> SignedPreKey {
    let (record, _) = &world.store.records[&key(RecordKind::SignedPreKey, id)];
    SignedPreKey::from_record(record.expose()).expect("a signed pre-key")
}

/// A world whose signed pre-key was due before it logged in.
fn due() -> World {
    let mut world = World::new(device());
    put_key_state(&mut world.store, 0, u64::MAX);
    world
}

fn delivered(world: &World) -> usize {
    world.store.delivered.len()
}

/// The same device on its next connection, with what the store has.
fn next_connection(world: World) -> World {
    let mut next = World::new(device());
    next.store.records = world.store.records;
    next.now = world.now;
    next.entropy = support::Seeded(43);
    next
}

#[test]
fn a_new_signed_pre_key_is_durable_before_the_server_hears_of_it() {
    let mut world = due();
    world.commits = None;
    world.open();
    assert_eq!(sent(&world, "rotate"), [] as [&Node; 0], "not before");
    let made = world.writes().any(|write| matches!(write, Write::PutRecord { key, .. } if *key == self::key(RecordKind::SignedPreKey, 2)));
    assert!(made);
    world.commits = Some(Ok(()));
    world.exchange();
    let [rotate] = sent(&world, "rotate")[..] else { panic!("once") };
    let (id, value, signature) = signed(rotate);
    let ours = stored(&world, 2);
    assert_eq!((id, value, signature), (2, *ours.pair.public(), ours.signature));
    let identity = runner_signal::KeyPair::from_secret(*device_keys().identity_secret.expose());
    assert!(identity.public().verifies(&value.to_wire(), &signature), "signed by our identity");
}

#[test]
fn messages_on_the_old_and_on_the_new_signed_pre_key_are_read_also_after_a_restart() {
    let mut world = due();
    world.open();
    let mut world = next_connection(world);
    world.open();
    assert!(sent(&world, "rotate").is_empty(), "once a period");
    let (mut old, mut new) = (Contact::new("15550002222:1@s.whatsapp.net", 21), Contact::new(PN, 22));
    old.begin(&device_keys(), None);
    new.begin(&given(&stored(&world, 2)), None);
    world.push(&old.message("A", "on the credentials' key"));
    world.push(&new.message("B", "on the new one"));
    assert_eq!(delivered(&world), 2);
    // And what we give out from now on names the new one.
    let mut stranger = Contact::new("15550003333@s.whatsapp.net", 23);
    stranger.begin(&DeviceKeys { signed_pre_key_id: 77, ..device_keys() }, None);
    for _ in 0..2 {
        world.push(&stranger.message("C", "on a key that nobody has"));
    }
    let keys: Vec<_> = sent(&world, "keys");
    assert_eq!(keys.iter().map(|keys| signed(keys).0).collect::<Vec<_>>(), [2]);
}

#[test]
fn after_a_crash_before_the_answer_the_same_key_is_offered_again() {
    let mut world = due();
    world.peer.script.answers_rotations = false;
    world.open();
    let first = signed(sent(&world, "rotate")[0]);
    let mut world = next_connection(world);
    world.open();
    assert_eq!(signed(sent(&world, "rotate")[0]), first);
    let mut world = next_connection(world);
    world.open();
    assert!(sent(&world, "rotate").is_empty(), "it was answered");
}

#[test]
fn a_commit_that_fails_tells_the_server_nothing() {
    let mut world = due();
    world.commits = Some(Err(runner_client::CommitFailed::Store));
    world.open();
    assert!(sent(&world, "rotate").is_empty());
    world.commits = Some(Ok(()));
    world.advance(Duration::from_secs(600));
    let [rotate] = sent(&world, "rotate")[..] else { panic!("at the next probe") };
    assert_eq!(signed(rotate).1, *stored(&world, signed(rotate).0).pair.public());
}

#[test]
fn a_key_that_the_server_refuses_is_thrown_away_and_another_one_made_a_day_later() {
    for code in [406, 409] {
        let mut world = due();
        world.peer.script.rotate_error = Some(code);
        world.open();
        let refused = signed(sent(&world, "rotate")[0]);
        assert!(!world.store.records.contains_key(&key(RecordKind::SignedPreKey, refused.0)));
        assert_eq!(sent(&world, "digest").len(), 1, "what does it have of ours?");
        world.peer.received.clear();
        world.peer.script.rotate_error = None;
        world.advance(DAY - Duration::from_secs(600));
        assert!(sent(&world, "rotate").is_empty(), "{code}: a server that refuses is not asked all day");
        world.advance(Duration::from_secs(1200));
        let second = signed(sent(&world, "rotate")[0]);
        assert_ne!((refused.0, refused.1), (second.0, second.1));
        assert_eq!(stored(&world, second.0).signature, second.2);
    }
}

#[test]
fn a_server_that_cannot_take_it_now_is_offered_the_same_key_a_day_later() {
    let mut world = due();
    world.peer.script.rotate_error = Some(503);
    world.open();
    let first = signed(sent(&world, "rotate")[0]);
    world.peer.received.clear();
    world.peer.script.rotate_error = None;
    world.advance(DAY + Duration::from_secs(600));
    assert_eq!(sent(&world, "rotate").iter().map(|rotate| signed(rotate)).collect::<Vec<_>>(), [first]);
}

#[test]
fn a_signed_pre_key_is_replaced_after_27_days_and_three_older_ones_are_kept() {
    let mut world = World::new(device());
    world.store.records.clear();
    world.open();
    world.peer.received.clear();
    world.advance(Duration::from_secs(2 * 60 * 60));
    assert_eq!(sent(&world, "digest").len(), 1, "compared within the first hour");
    world.advance(27 * DAY - Duration::from_secs(4 * 60 * 60));
    assert!(sent(&world, "rotate").is_empty());
    world.advance(DAY + Duration::from_secs(4 * 60 * 60));
    assert_eq!(sent(&world, "rotate").len(), 1);
    // And then at each login, as if that much time had passed.
    for _ in 0..5 {
        let state = key(RecordKind::SignedPreKeyState, "");
        let (record, _) = &world.store.records[&state];
        let mut record = record.expose().to_vec();
        record[13..21].fill(0);
        world.store.records.insert(state, (record.into(), false));
        world = next_connection(world);
        world.open();
        assert_eq!(sent(&world, "rotate").len(), 1);
    }
    let mut kept: Vec<_> = world
        .store
        .records
        .keys()
        .filter(|key| key.kind == RecordKind::SignedPreKey)
        .map(|key| &key.id)
        .collect();
    kept.sort();
    assert_eq!(kept, ["4", "5", "6", "7"]);
}

/// The server's digest of these keys.
fn digest(keys: &DeviceKeys, one_time: &[PreKey]) -> Node {
    let public = |secret: &Secret| *runner_signal::KeyPair::from_secret(*secret.expose()).public();
    let (identity, signed) = (public(&keys.identity_secret), public(&keys.signed_pre_key_secret));
    let mut hash = Sha1::new();
    hash.update(identity.as_bytes());
    hash.update(signed.as_bytes());
    hash.update(keys.signed_pre_key_signature);
    let list = one_time.iter().fold(Node::new("list"), |list, key| {
        hash.update(key.pair.public().as_bytes());
        list.child(Node::new("id").bytes(&key.id.to_be_bytes()[1..]))
    });
    Node::new("digest")
        .child(Node::new("registration").bytes(keys.registration_id.to_be_bytes()))
        .child(Node::new("type").bytes([5]))
        .child(Node::new("identity").bytes(*identity.as_bytes()))
        .child(
            Node::new("skey")
                .child(Node::new("id").bytes(&keys.signed_pre_key_id.to_be_bytes()[1..]))
                .child(Node::new("value").bytes(*signed.as_bytes()))
                .child(Node::new("signature").bytes(keys.signed_pre_key_signature)),
        )
        .child(list)
        .child(Node::new("hash").bytes(&hash.finalize()[..]))
}

fn one_time(ids: std::ops::Range<u32>, seed: u8) -> Vec<PreKey> {
    ids.map(|id| PreKey::generate(id, &mut |bytes| bytes.fill(seed ^ id as u8))).collect()
}

/// A world that compares at its login, with one-time pre-keys 1 to 9.
fn checking(digest: Result<Node, u32>) -> World {
    let mut world = World::new(device());
    put_key_state(&mut world.store, u64::MAX, 0);
    for one in one_time(1..10, 1) {
        let value = one.to_record().into_bytes().into();
        world.store.records.insert(key(RecordKind::PreKey, one.id), (value, false));
    }
    world.peer.script.digest = digest;
    world.open();
    world
}

fn differs(world: &World) -> Vec<&'static str> {
    let what = |event: &Event| if let Event::KeysDiffer { what } = event { Some(*what) } else { None };
    world.events().filter_map(what).collect()
}

#[test]
fn a_server_that_has_what_we_have_is_left_alone() {
    let ours = digest(&device_keys(), &one_time(1..10, 1));
    let some_used = digest(&device_keys(), &one_time(3..6, 1));
    for same in [Ok(ours), Ok(some_used), Ok(Node::new("digest")), Err(500), Err(501)] {
        let world = checking(same.clone());
        assert_eq!(sent(&world, "digest").len(), 1);
        assert_eq!((sent(&world, "list").len(), differs(&world)), (0, vec![]), "{same:?}");
    }
}

#[test]
fn a_server_that_has_other_keys_is_given_ours_once() {
    let keys = device_keys();
    let ours = one_time(1..10, 1);
    let other = |keys: DeviceKeys| Ok(digest(&keys, &ours));
    let mut wrong_hash = digest(&keys, &ours);
    if let NodeContent::Nodes(children) = &mut wrong_hash.content {
        children.pop();
        children.push(Node::new("hash").bytes([1; 20]));
    }
    let cases = [
        (other(DeviceKeys { registration_id: 1, ..keys.clone() }), "another registration id"),
        (other(DeviceKeys { identity_secret: [8; 32].into(), ..keys.clone() }), "another identity key"),
        (other(DeviceKeys { signed_pre_key_id: 9, ..keys.clone() }), "another signed pre-key"),
        (
            other(DeviceKeys { signed_pre_key_secret: [8; 32].into(), ..keys.clone() }),
            "another signed pre-key",
        ),
        (other(DeviceKeys { signed_pre_key_signature: [8; 64], ..keys.clone() }), "another signed pre-key"),
        (Ok(digest(&keys, &one_time(5..11, 1))), "one-time pre-keys that are not here"),
        (Ok(digest(&keys, &one_time(1..10, 2))), "other one-time pre-keys under the same ids"),
        (Ok(wrong_hash), "other one-time pre-keys under the same ids"),
        (Err(404), "none at all"),
    ];
    for (digest, what) in cases {
        let mut world = checking(digest);
        assert_eq!(differs(&world), [what]);
        let uploads = sent(&world, "list");
        let [upload] = uploads[..] else { panic!("{what}: {} uploads", uploads.len()) };
        let NodeContent::Nodes(listed) = &upload.content else { panic!() };
        assert_eq!(listed.len(), 812, "{what}");
        let whole = world.peer.received.iter().find(|iq| child(iq, "list").is_some()).expect("an upload");
        assert_eq!(signed(whole).0, device_keys().signed_pre_key_id);
        // It never agrees: a day later once more, and not before.
        world.peer.received.clear();
        world.advance(DAY - Duration::from_secs(600));
        assert_eq!(sent(&world, "digest").len(), 0, "{what}");
        world.advance(DAY + Duration::from_secs(1200));
        assert_eq!((sent(&world, "digest").len(), sent(&world, "list").len()), (1, 1), "{what}");
    }
}

#[test]
fn a_rotation_that_the_server_took_without_our_hearing_of_it_is_no_difference() {
    let mut world = World::new(device());
    put_key_state(&mut world.store, 0, 0);
    world.peer.script.answers_rotations = false;
    world.open();
    let pending = stored(&world, 2);
    // The rotation is put off, and the day's comparison comes first.
    let mut world = next_connection(world);
    world.peer.script.rotate_error = Some(503);
    world.peer.script.digest = Ok(digest(&given(&pending), &[]));
    world.open();
    assert_eq!(sent(&world, "digest").len(), 1);
    assert_eq!(differs(&world), [] as [&str; 0]);
}

#[test]
fn an_upload_waits_for_the_signed_pre_key_that_is_in_use() {
    let mut world = due();
    world.open();
    let mut world = next_connection(world);
    world.peer.script.pre_key_count = Some(0);
    world.open();
    let upload = world.peer.received.iter().find(|iq| child(iq, "list").is_some()).expect("an upload");
    assert_eq!(signed(upload).0, 2);
}

fn identity_changed(id: &str) -> Node {
    Node::new("notification")
        .attr("id", id)
        .attr_jid("from", support::jid(PN))
        .attr("type", "encrypt")
        .attr("t", "1767225600")
        .child(Node::new("identity"))
}

fn may_send(world: &World, name: &str) -> bool {
    let (record, _) = &world.store.records[&key(RecordKind::Session, name)];
    session::summary(record.expose()).expect("a session record").current.is_some()
}

#[test]
fn a_contact_that_was_linked_anew_is_not_written_to_in_its_old_session() {
    for lid in [false, true] {
        let mut world = World::online();
        let mut contact = Contact::new(PN, 21);
        contact.begin(&device_keys(), None);
        let mut first = contact.message("A", "one");
        if lid {
            first = first.attr_jid("sender_lid", support::jid("700000000002@lid"));
        }
        world.push(&first);
        let name = if lid { "700000000002_1.0" } else { "15550002222.0" };
        assert!(may_send(&world, name));
        let late = contact.message("B", "under way");
        world.push(&identity_changed("N"));
        assert!(!may_send(&world, name));
        assert_eq!(world.peer.received.iter().filter(|node| node.tag == "ack").count(), 1, "one answer");
        let changed = |event: &&Event| matches!(event, Event::IdentityChanged { jid } if jid == PN);
        assert_eq!(world.events().filter(changed).count(), 1);
        world.push(&late);
        assert_eq!(delivered(&world), 2, "what was under way is read");
        assert_eq!(world.client.counters().messages_received, 2, "a notification is no message");
        assert_eq!(world.client.counters().unanswered, 0);
    }
}

#[test]
fn an_identity_change_waits_behind_the_messages_before_it() {
    let mut world = World::online();
    let mut contact = Contact::new(PN, 21);
    contact.begin(&device_keys(), None);
    world.commits = None;
    world.peer.send(&contact.message("A", "one"));
    world.peer.send(&identity_changed("N"));
    world.exchange();
    world.commits = Some(Ok(()));
    world.exchange();
    assert!(!may_send(&world, "15550002222.0"), "it was made by the message before");
    assert_eq!(delivered(&world), 1);
}

#[test]
fn identity_changes_of_strangers_and_malformed_ones_are_answered_and_harmless() {
    let mut world = World::online();
    world.push(&identity_changed("N"));
    world.push(
        &Node::new("notification").attr("id", "M").attr("type", "encrypt").child(Node::new("identity")),
    );
    let group = identity_changed("G");
    world.push(&Node { attrs: group.attrs.into_iter().filter(|(key, _)| key != "from").collect(), ..group });
    assert!(!world.is_closed());
    assert_eq!(world.events().filter(|event| matches!(event, Event::IdentityChanged { .. })).count(), 0);
    assert_eq!(world.client.counters().unanswered, 0);
}

#[test]
fn notifications_of_devices_are_acknowledged() {
    let mut world = World::online();
    for (id, kind) in [("D", "devices"), ("S", "account_sync")] {
        let devices = Node::new("devices").attr("dhash", "2:abc");
        let notification = Node::new("notification").attr("id", id).attr("type", kind).attr("t", "1");
        world.push(&notification.attr_jid("from", support::jid(PN)).child(devices));
    }
    let acks: Vec<_> = world.peer.received.iter().filter(|node| node.tag == "ack").collect();
    assert_eq!(acks.iter().map(|ack| support::peer::attr(ack, "id")).collect::<Vec<_>>(), ["D", "S"]);
}

/// The contact's device is asked again as for a session that is missing; whoever imported hears that it happened.
#[test]
fn an_imported_session_that_cannot_be_read_is_counted_said_once_and_asked_for_again() {
    let mut world = World::online();
    for user in 0..3 {
        let key = key(RecordKind::Session, format!("1555000222{user}.0"));
        world.store.records.insert(key, (b"{\"_sessions\":7}".to_vec().into(), true));
    }
    for user in 0..3 {
        let message = Node::new("message")
            .attr("id", format!("A{user}"))
            .attr_jid("from", support::jid(&format!("1555000222{user}@s.whatsapp.net")))
            .attr("type", "text")
            .attr("t", "1767225600");
        let mut contact = Contact::new(PN, 21);
        contact.begin(&device_keys(), None);
        let pkmsg = contact.message("x", "x");
        let Some(enc) = child(&pkmsg, "enc") else { panic!() };
        // As a message of a session that is established.
        let inner = runner_signal::PreKeySignalMessage::parse(bytes(enc)).expect("a pkmsg");
        let inner = [&[0x33][..], &inner.message.authenticated[1..], &inner.message.mac].concat();
        world.push(&message.child(Node::new("enc").attr("v", "2").attr("type", "msg").bytes(inner)));
    }
    let said = world.events().filter(|event| **event == Event::RecordUnreadable { kind: "session" }).count();
    assert_eq!((said, world.client.counters().records_unreadable), (1, 3));
    let retries = sent(&world, "retry");
    let errors: Vec<_> = retries.iter().map(|retry| support::peer::attr(retry, "error")).collect();
    assert_eq!(errors, ["1", "1", "1"], "no session");
    assert!(world.store.records.values().any(|(_, is_imported)| *is_imported), "it is kept");
}
