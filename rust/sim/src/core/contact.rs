//! Contacts that talk: the other side of end-to-end messages, inside the simulator, so that a bot can be tried without
//! a phone.
//!
//! A contact is a device of its own account, with keys from the seed. It writes when it is told to
//! (`POST /say`, `POST /chatter`), to a device or in a group, says what it hears (echo; not in a group) unless that is an
//! answer to what it wrote, and sends again what it is asked for. `GET /heard` shows what it was sent.

mod hearing;

use std::collections::{HashMap, HashSet, VecDeque};

use runner_proto::jid::Jid;
use runner_proto::node::{AttrValue, Node};
use runner_signal::{
    Identity, KeyPair, Random, SignedPreKey, group,
    session::{self, MessageKind},
};

use super::directory::{self, GivenBundle, KeyBundle, child, pn};
use super::fleet::Fleet;
use super::group::{GroupId, group_jid};
use super::relay::{Delivery, with_both_addresses};
use super::wording::{self, About, Wording};
use super::world::{Cx, DeviceId, World};

/// Username of the first contact; the others follow by one.
pub const FIRST_CONTACT: u64 = 15_559_000_000;
/// Contacts there are.
pub const CONTACTS: u32 = 10;

/// Most that write when they are told to; those above [`CONTACTS`] come to be by that, and are in no group.
pub(super) const MOST_CONTACTS: u32 = 1000;
/// Messages that a contact can send again.
const REMEMBERED: usize = 1_000;
/// How often a contact sends a message again.
const MAX_RESENDS: u64 = 5;

/// One contact.
pub(super) struct Contact {
    device: DeviceId,
    identity: Identity,
    signed_pre_key: SignedPreKey,
    sessions: HashMap<DeviceId, Vec<u8>>,
    groups: HashMap<GroupId, OwnKey>,
    /// What devices have told it of their sender keys.
    others: HashMap<(GroupId, DeviceId), Vec<u8>>,
    /// What was sent last.
    sent: VecDeque<Written>,
    /// How many of the next messages it cannot read.
    pub(super) mishears: u32,
}

/// Where a contact writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To one device.
    Device(DeviceId),
    /// To all devices of a group.
    Group(GroupId),
}

/// A contact's own sender key of a group.
struct OwnKey {
    record: Vec<u8>,
    /// Who can read it.
    told: HashSet<DeviceId>,
}

/// A message that can be sent again, and be written about.
#[derive(Clone)]
struct Written {
    id: String,
    place: Place,
    kind: Wording,
    text: String,
    /// Its `Message`.
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Contact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contact").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Contact {
    /// Contact `index`, with keys from the seed.
    pub(super) fn new(fleet: Fleet, index: u32) -> Self {
        let of = |label: &str| KeyPair::from_secret(fleet.bytes(label, index));
        let identity = Identity::new(of("contact identity"), fleet.registration_id(index));
        let pair = of("contact signed pre-key");
        let signature = runner_xeddsa::sign(
            identity.pair().expose(),
            &pair.public().to_wire(),
            &fleet.nonce("contact signature", index),
        );
        Self {
            device: (FIRST_CONTACT + u64::from(index), 0),
            identity,
            signed_pre_key: SignedPreKey { id: 1, pair, signature },
            sessions: HashMap::new(),
            groups: HashMap::new(),
            others: HashMap::new(),
            sent: VecDeque::new(),
            mishears: 0,
        }
    }

    /// It is linked anew: other keys, and nothing of what it had agreed on with others. What it wrote it can still write
    /// again.
    fn renew(&mut self, random: &mut Random<'_>) {
        self.identity = Identity::generate(random);
        self.signed_pre_key = SignedPreKey::generate(&self.identity, self.signed_pre_key.id + 1, random);
        self.sessions.clear();
        self.groups.clear();
        self.others.clear();
    }

    /// Somebody left a group: what it writes there from now on is not for them.
    pub(super) fn forget_key(&mut self, id: GroupId) {
        self.groups.remove(&id);
    }

    /// What others need to write to it first.
    pub(super) fn bundle(&self) -> KeyBundle {
        let signed = &self.signed_pre_key;
        directory::contact_bundle(
            self.identity.registration_id(),
            *self.identity.public().as_bytes(),
            (signed.id, *signed.pair.public().as_bytes(), signed.signature),
        )
    }

    /// True when it can write to `to` without asking for a bundle.
    fn has_session(&self, to: DeviceId) -> bool {
        self.sessions.contains_key(&to)
    }

    fn begin(&mut self, to: DeviceId, bundle: &GivenBundle, random: &mut Random<'_>) -> Result<(), String> {
        let record = self.sessions.get(&to).map(Vec::as_slice);
        let record =
            session::start(&self.identity, record, bundle, random).map_err(|error| error.to_string())?;
        self.sessions.insert(to, record.into_bytes());
        Ok(())
    }

    /// `<enc>` of a `Message` for `to`.
    fn enc(&mut self, to: DeviceId, message: &[u8], random: &mut Random<'_>) -> Result<Node, String> {
        let record = self.sessions.get(&to).map(Vec::as_slice);
        let sealed = session::encrypt(&self.identity, record, &padded(message), random)
            .map_err(|error| error.to_string())?;
        self.sessions.insert(to, sealed.record.into_bytes());
        let kind = match sealed.message.kind {
            MessageKind::PreKey => "pkmsg",
            MessageKind::Signal => "msg",
        };
        Ok(enc(kind, sealed.message.bytes))
    }

    /// Its own sender key of a group, made when it first writes there.
    fn key_of(&mut self, id: GroupId, random: &mut Random<'_>) -> &mut OwnKey {
        let new = || OwnKey { record: group::create(random).into_bytes(), told: HashSet::new() };
        self.groups.entry(id).or_insert_with(new)
    }

    /// A `Message` that brings the own sender key of a group as it is at this moment.
    fn key_distribution(&mut self, id: GroupId, random: &mut Random<'_>) -> Result<Vec<u8>, String> {
        let key = self.key_of(id, random);
        let key = group::distribution(&key.record).map_err(|error| error.to_string())?;
        Ok(wording::key_distribution(&group_jid(id).to_string(), key))
    }

    /// `<enc>` of a `Message` for a group.
    fn group_enc(&mut self, id: GroupId, message: &[u8], random: &mut Random<'_>) -> Result<Node, String> {
        let key = self.key_of(id, random);
        let sealed =
            group::encrypt(Some(&key.record), &padded(message), random).map_err(|error| error.to_string())?;
        key.record = sealed.record.into_bytes();
        Ok(enc("skmsg", sealed.message))
    }

    /// Words a message, and keeps it to be sent again. What is about an earlier message is a text where there is none.
    fn word(&mut self, id: &str, place: Place, kind: Wording, text: &str) -> Written {
        let earlier = self.sent.iter().rfind(|written| {
            written.place == place && matches!(written.kind, Wording::Text | Wording::Reply)
        });
        let about = earlier.map(|written| About {
            id: written.id.clone(),
            chat: match place {
                Place::Device(to) => pn(to).to_non_ad().to_string(),
                Place::Group(id) => group_jid(id).to_string(),
            },
            participant: matches!(place, Place::Group(_)).then(|| pn(self.device).to_non_ad().to_string()),
            text: written.text.clone(),
        });
        let kind = if about.is_some() { kind } else { Wording::Text };
        let bytes = wording::message(kind, text, about.as_ref());
        if kind == Wording::Revoke {
            // Nothing more is said about what is gone.
            self.sent.retain(|written| about.as_ref().is_none_or(|about| about.id != written.id));
        }
        let written = Written { id: id.to_owned(), place, kind, text: text.to_owned(), bytes };
        if self.sent.len() >= REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back(written.clone());
        written
    }
}

impl World {
    /// The contacts of a world.
    pub(super) fn contacts_of(fleet: Fleet) -> HashMap<DeviceId, Contact> {
        (0..CONTACTS)
            .map(|index| Contact::new(fleet, index))
            .map(|contact| (contact.device, contact))
            .collect()
    }

    /// A contact writes.
    pub(super) fn say(
        &mut self,
        contact: DeviceId,
        place: Place,
        kind: Wording,
        text: &str,
        cx: &mut Cx<'_>,
    ) -> Result<String, String> {
        let id = self.next_stanza_id();
        let writes = self.contacts.get_mut(&contact).ok_or("no such contact")?;
        let written = writes.word(&id, place, kind, text);
        match place {
            Place::Device(to) => self.write_to(contact, to, &written, cx)?,
            Place::Group(group) => self.write_in(contact, group, &written, cx)?,
        }
        self.counters.contact_messages += 1;
        Ok(id)
    }

    fn write_to(
        &mut self,
        contact: DeviceId,
        to: DeviceId,
        written: &Written,
        cx: &mut Cx<'_>,
    ) -> Result<(), String> {
        let enc = self.seal(contact, to, &written.bytes, cx)?;
        let stanza = with_both_addresses(headed(written, contact, cx), contact, &pn(to)).child(enc);
        self.deliveries.push_back(Delivery { from: contact, to, stanza });
        Ok(())
    }

    fn write_in(
        &mut self,
        contact: DeviceId,
        id: GroupId,
        written: &Written,
        cx: &mut Cx<'_>,
    ) -> Result<(), String> {
        let mut readers = self.devices_in(id);
        readers.retain(|reader| self.accounts.contains_key(reader));
        // The key as it is before this message, so that whoever gets it can read this message.
        let mut distributions = HashMap::new();
        for &reader in &readers {
            let writes = self.contacts.get_mut(&contact).ok_or("no such contact")?;
            let random = &mut |bytes: &mut [u8]| cx.entropy.fill(bytes);
            if writes.key_of(id, random).told.insert(reader) {
                let message = writes.key_distribution(id, random)?;
                // A device without keys here gets what it cannot read, as at the real server.
                if let Ok(enc) = self.seal(contact, reader, &message, cx) {
                    distributions.insert(reader, enc);
                }
            }
        }
        let writes = self.contacts.get_mut(&contact).ok_or("no such contact")?;
        let shared = writes.group_enc(id, &written.bytes, &mut |bytes: &mut [u8]| cx.entropy.fill(bytes))?;
        for to in readers {
            let Some(group) = self.groups.get(&id) else { continue };
            let stanza = group.message_from(id, contact, headed(written, contact, cx));
            let own = distributions.remove(&to);
            let stanza = own.into_iter().chain([shared.clone()]).fold(stanza, Node::child);
            self.deliveries.push_back(Delivery { from: contact, to, stanza });
        }
        Ok(())
    }

    /// `<enc>` of a contact's `Message` for a device; a session is begun where there is none.
    fn seal(
        &mut self,
        contact: DeviceId,
        to: DeviceId,
        message: &[u8],
        cx: &mut Cx<'_>,
    ) -> Result<Node, String> {
        let random = &mut |bytes: &mut [u8]| cx.entropy.fill(bytes);
        let has_session = self.contacts.get(&contact).is_some_and(|contact| contact.has_session(to));
        let bundle = if has_session {
            None
        } else {
            Some(self.give_bundle(to).ok_or_else(|| format!("no device {}", pn(to)))?)
        };
        let contact = self.contacts.get_mut(&contact).ok_or("no such contact")?;
        if let Some(bundle) = bundle {
            contact.begin(to, &bundle, random)?;
        }
        contact.enc(to, message, random)
    }

    /// A contact is linked anew, and the server tells these devices.
    pub(super) fn renew_contact(&mut self, contact: DeviceId, told: &[DeviceId], cx: &mut Cx<'_>) {
        let Some(renewed) = self.contacts.get_mut(&contact) else { return };
        renewed.renew(&mut |bytes: &mut [u8]| cx.entropy.fill(bytes));
        self.directory.forget(contact);
        for &to in told {
            let notification = Node::new("notification")
                .attr("id", self.next_stanza_id())
                .attr_jid("from", pn(contact))
                .attr("type", "encrypt")
                .attr("t", cx.unix_s().to_string())
                .child(Node::new("identity"));
            self.deliveries.push_back(Delivery { from: contact, to, stanza: notification });
        }
    }

    fn send_again(&mut self, contact: DeviceId, to: DeviceId, receipt: &Node, cx: &mut Cx<'_>) {
        self.counters.contact_retries += 1;
        let random = &mut |bytes: &mut [u8]| cx.entropy.fill(bytes);
        let count = child(receipt, "retry")
            .and_then(|retry| retry.find_attr("count"))
            .and_then(|count| count.to_string().parse::<u64>().ok())
            .unwrap_or(1);
        let id = receipt.find_attr("id").map(ToString::to_string).unwrap_or_default();
        if count > MAX_RESENDS {
            return;
        }
        let given = directory::bundle_of_receipt(receipt).or_else(|| self.give_bundle(to));
        let Some(sender) = self.contacts.get_mut(&contact) else { return };
        let Some(written) = sender.sent.iter().find(|written| written.id == id).cloned() else { return };
        let Some(bundle) = given else { return };
        if sender.begin(to, &bundle, random).is_err() {
            return;
        }
        let Ok(mut enc) = sender.enc(to, &written.bytes, random) else { return };
        enc.attrs.push(("count".to_owned(), AttrValue::from(count.to_string())));
        let stanza = headed(&written, contact, cx);
        let stanza = match written.place {
            Place::Device(_) => with_both_addresses(stanza, contact, &pn(to)),
            Place::Group(id) => {
                // The next message comes with the sender key again.
                if let Some(key) = sender.groups.get_mut(&id) {
                    key.told.remove(&to);
                }
                let Some(group) = self.groups.get(&id) else { return };
                group.message_from(id, contact, stanza)
            }
        };
        self.deliveries.push_back(Delivery { from: contact, to, stanza: stanza.child(enc) });
    }
}

/// A `<message>` of a contact, without addresses and content.
fn headed(written: &Written, from: DeviceId, cx: &Cx<'_>) -> Node {
    let stanza = Node::new("message")
        .attr("id", written.id.as_str())
        .attr("type", written.kind.stanza_type())
        .attr("t", cx.unix_s().to_string())
        .attr("notify", format!("Contact {}", from.0 - FIRST_CONTACT + 1));
    match written.kind.edit() {
        Some(edit) => stanza.attr("edit", edit),
        None => stanza,
    }
}

fn enc(kind: &str, bytes: Vec<u8>) -> Node {
    Node::new("enc").attr("v", "2").attr("type", kind).bytes(bytes)
}

fn padded(message: &[u8]) -> Vec<u8> {
    [message, &[4; 4]].concat()
}

fn jid_of(value: &AttrValue) -> Option<Jid> {
    match value {
        AttrValue::Jid(jid) => Some(jid.clone()),
        AttrValue::Str(text) => text.parse().ok(),
    }
}
