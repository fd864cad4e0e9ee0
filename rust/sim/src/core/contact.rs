//! Contacts that talk: the other side of end-to-end messages, inside the simulator, so that a bot can be tried without
//! a phone.
//!
//! A contact is a device of its own account, with keys from the seed. It writes when it is told to
//! (`POST /say`), says what it hears (echo), and sends again what it is asked for.

use std::collections::{HashMap, VecDeque};

use runner_proto::node::{AttrValue, Node, NodeContent};
use runner_signal::{
    Identity, KeyPair, PreKeySignalMessage, Random, SignalMessage, SignedPreKey,
    session::{self, MessageKind, NamedPreKeys},
};

use super::directory::{self, GivenBundle, KeyBundle, child, children, pn};
use super::fleet::Fleet;
use super::relay::{Delivery, with_both_addresses};
use super::world::{Cx, DeviceId, World};

/// Username of the first contact; the others follow by one.
pub const FIRST_CONTACT: u64 = 15_559_000_000;
/// Contacts there are.
pub const CONTACTS: u32 = 10;
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
    /// Id and text of what was sent last.
    sent: VecDeque<(String, String)>,
}

impl std::fmt::Debug for Contact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contact").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Contact {
    /// Contact `index`, with keys from the seed.
    fn new(fleet: Fleet, index: u32) -> Self {
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
            sent: VecDeque::new(),
        }
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

    /// `<enc>` of a text for `to`.
    fn enc(&mut self, to: DeviceId, text: &str, random: &mut Random<'_>) -> Result<Node, String> {
        let record = self.sessions.get(&to).map(Vec::as_slice);
        let padded = [&text_message(text)[..], &[4; 4]].concat();
        let sealed =
            session::encrypt(&self.identity, record, &padded, random).map_err(|error| error.to_string())?;
        self.sessions.insert(to, sealed.record.into_bytes());
        let kind = match sealed.message.kind {
            MessageKind::PreKey => "pkmsg",
            MessageKind::Signal => "msg",
        };
        Ok(Node::new("enc").attr("v", "2").attr("type", kind).bytes(sealed.message.bytes))
    }

    /// The text of a message for this contact.
    fn read(&mut self, from: DeviceId, enc: &Node) -> Option<String> {
        let NodeContent::Bytes(bytes) = &enc.content else { return None };
        let record = self.sessions.get(&from).map(Vec::as_slice);
        let read = match enc.find_attr("type").map(ToString::to_string).as_deref() {
            Some("pkmsg") => {
                let message = PreKeySignalMessage::parse(bytes).ok()?;
                let keys = NamedPreKeys { signed: Some(&self.signed_pre_key), one_time: None };
                session::decrypt_pre_key(&self.identity, record, keys, &message).ok()?
            }
            _ => session::decrypt(&self.identity, record, &SignalMessage::parse(bytes).ok()?).ok()?,
        };
        self.sessions.insert(from, read.record.into_bytes());
        let padding = usize::from(*read.plaintext.last()?);
        let len = read.plaintext.len().checked_sub(padding)?;
        text_of(read.plaintext.get(..len)?)
    }

    fn remember(&mut self, id: &str, text: &str) {
        if self.sent.len() >= REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((id.to_owned(), text.to_owned()));
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

    /// A contact writes a text to a device.
    pub(super) fn say(
        &mut self,
        contact: DeviceId,
        to: DeviceId,
        text: &str,
        cx: &mut Cx<'_>,
    ) -> Result<String, String> {
        let id = self.next_stanza_id();
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
        let enc = contact.enc(to, text, random)?;
        contact.remember(&id, text);
        let from = contact.device;
        let stanza = direct(&id, from, to, cx.unix_s()).child(enc);
        self.counters.contact_messages += 1;
        self.deliveries.push_back(Delivery { from, to, stanza });
        Ok(id)
    }

    /// A contact gets a stanza of a client: a text comes back, and what could not be read is sent again.
    pub(super) fn contact_hears(
        &mut self,
        contact: DeviceId,
        from: DeviceId,
        stanza: &Node,
        cx: &mut Cx<'_>,
    ) {
        let kind = stanza.find_attr("type").map(ToString::to_string);
        match (stanza.tag.as_str(), kind.as_deref()) {
            ("message", _) => {
                let Some(hears) = self.contacts.get_mut(&contact) else { return };
                let texts = children(stanza).iter().filter(|child| child.tag == "enc");
                let text = texts.filter_map(|enc| hears.read(from, enc)).last();
                if let Some(text) = text {
                    self.counters.contact_heard += 1;
                    // The account is known, or it could not have written.
                    let _ = self.say(contact, from, &text, cx);
                }
            }
            ("receipt", Some("retry")) => self.send_again(contact, from, stanza, cx),
            ("receipt", _) => self.counters.contact_receipts += 1,
            _ => {}
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
        let Some(contact) = self.contacts.get_mut(&contact) else { return };
        let Some((_, text)) = contact.sent.iter().find(|(of, _)| *of == id).cloned() else { return };
        let Some(bundle) = given else { return };
        if contact.begin(to, &bundle, random).is_err() {
            return;
        }
        let Ok(mut enc) = contact.enc(to, &text, random) else { return };
        enc.attrs.push(("count".to_owned(), AttrValue::from(count.to_string())));
        let from = contact.device;
        let stanza = direct(&id, from, to, cx.unix_s()).child(enc);
        self.deliveries.push_back(Delivery { from, to, stanza });
    }
}

/// A direct `<message>` of a contact, without content.
fn direct(id: &str, from: DeviceId, to: DeviceId, unix_s: u64) -> Node {
    let stanza = Node::new("message")
        .attr("id", id)
        .attr("type", "text")
        .attr("t", unix_s.to_string())
        .attr("notify", format!("Contact {}", from.0 - FIRST_CONTACT + 1));
    with_both_addresses(stanza, from, &pn(to))
}

/// `Message { conversation }`.
fn text_message(text: &str) -> Vec<u8> {
    prost::Message::encode_to_vec(&TextMessage { conversation: Some(text.to_owned()), extended: None })
}

fn text_of(message: &[u8]) -> Option<String> {
    let read: TextMessage = prost::Message::decode(message).ok()?;
    read.conversation.or_else(|| read.extended?.text)
}

/// As much of `Message` as a contact reads and writes. docs/protocol.md, "Messages".
#[derive(Clone, PartialEq, prost::Message)]
struct TextMessage {
    #[prost(string, optional, tag = "1")]
    conversation: Option<String>,
    #[prost(message, optional, tag = "6")]
    extended: Option<ExtendedText>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExtendedText {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
}
