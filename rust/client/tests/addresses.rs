//! A contact that has begun a session under each of its two addresses, before it was known that they are one.

mod support;

use runner_client::{RecordKey, RecordKind};
use runner_proto::node::Node;
use runner_signal::PreKey;
use support::{World, contact::Contact, contact::text_message, device_keys, jid};

const PN: &str = "15550002222:3@s.whatsapp.net";
const LID: &str = "700000000002:3@lid";

/// The contact's session by number, that by LID, and the client that has read a message of each.
struct Both {
    world: World,
    by_number: Contact,
    by_lid: Contact,
}

impl Both {
    fn new(pre_key: Option<PreKey>) -> Self {
        let mut world = World::online();
        let (mut by_number, mut by_lid) = (Contact::new(PN, 21), Contact::new(LID, 21));
        if let Some(pre_key) = &pre_key {
            let key = RecordKey { kind: RecordKind::PreKey, id: pre_key.id.to_string() };
            world.store.records.insert(key, (pre_key.to_record().into_bytes().into(), false));
        }
        by_number.begin(&device_keys(), pre_key.as_ref());
        by_lid.begin(&device_keys(), None);
        // With other randomness than the first.
        by_lid.begin(&device_keys(), None);
        world.push(&by_number.message("N", "by number"));
        world.push(&by_lid.message("L", "by lid"));
        Self { world, by_number, by_lid }
    }

    /// A message by number, with the other address beside it.
    fn named(&mut self, id: &str) -> Node {
        self.by_number.message(id, id).attr_jid("sender_lid", jid("700000000002@lid"))
    }

    fn read(&self) -> usize {
        self.world.store.delivered.len()
    }
}

#[test]
fn a_first_session_that_we_have_not_answered_goes_on_under_its_address() {
    let mut both = Both::new(Some(PreKey::generate(7, &mut |bytes| bytes.fill(7))));
    let message = both.named("A");
    both.world.push(&message);
    assert_eq!(both.read(), 3, "its one-time pre-key is used up, its session is there");
    // And the other one as well.
    both.world.push(&both.by_lid.message("B", "b"));
    assert_eq!((both.read(), both.world.client.counters().messages_undecrypted), (4, 0));
}

/// Whoever only reads never gives a new ratchet key, so that the contact's chain grows without end.
#[test]
fn a_long_chain_under_one_address_is_read_although_the_other_has_a_session() {
    let mut both = Both::new(None);
    for n in 1..=3_000 {
        let enc = both.by_number.enc(&text_message("x"));
        if n % 1_500 == 0 {
            both.world.push(&both.by_number.stanza(&format!("M{n}")).child(enc));
        }
    }
    assert_eq!(both.read(), 4);
    let message = both.named("A");
    both.world.push(&message);
    assert_eq!((both.read(), both.world.client.counters().messages_undecrypted), (5, 0));
}
