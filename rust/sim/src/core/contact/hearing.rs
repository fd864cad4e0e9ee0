//! What contacts hear: texts of clients, to themselves or in a group.

use runner_proto::{
    jid::Jid,
    node::{Node, NodeContent},
};
use runner_signal::{
    PreKeySignalMessage, SenderKeyDistribution, SenderKeyMessage, SignalMessage, group,
    session::{self, NamedPreKeys},
};

use super::{Contact, FIRST_CONTACT, Place, jid_of};
use crate::core::{
    directory::{address_like, children, pn},
    group::{GroupId, group_id, group_jid},
    journal::Heard,
    relay::Delivery,
    wording::{self, Wording},
    world::{Cx, DeviceId, World},
};

impl Contact {
    /// What a message says to this contact; `None`: it cannot be read, or says nothing.
    fn read_all(&mut self, from: DeviceId, group: Option<GroupId>, stanza: &Node) -> Option<Vec<u8>> {
        let mut last = None;
        for enc in children(stanza).iter().filter(|child| child.tag == "enc") {
            let Some(message) = self.read(from, group, enc) else { continue };
            if let (Some(group), Some((of, key))) = (group, wording::distributed(&message))
                && of == group_jid(group).to_string()
            {
                self.accept_key(from, group, &key);
            }
            last = Some(message);
        }
        last
    }

    fn accept_key(&mut self, from: DeviceId, group: GroupId, key: &[u8]) {
        let known = self.others.get(&(group, from)).map(Vec::as_slice);
        let told = SenderKeyDistribution::parse(key).ok();
        if let Some(Ok(Some(record))) = told.map(|told| group::accept(known, &told)) {
            self.others.insert((group, from), record.into_bytes());
        }
    }

    /// The bytes of one ciphertext.
    fn read(&mut self, from: DeviceId, group: Option<GroupId>, enc: &Node) -> Option<Vec<u8>> {
        let NodeContent::Bytes(bytes) = &enc.content else { return None };
        let record = self.sessions.get(&from).map(Vec::as_slice);
        let kind = enc.find_attr("type").map(ToString::to_string);
        if kind.as_deref() == Some("skmsg") {
            let place = (group?, from);
            let message = SenderKeyMessage::parse(bytes).ok()?;
            let read = group::decrypt(self.others.get(&place).map(Vec::as_slice), &message).ok()?;
            self.others.insert(place, read.record.into_bytes());
            return unpadded(&read.plaintext);
        }
        let read = match kind.as_deref() {
            Some("pkmsg") => {
                let message = PreKeySignalMessage::parse(bytes).ok()?;
                let keys = NamedPreKeys { signed: Some(&self.signed_pre_key), one_time: None };
                session::decrypt_pre_key(&self.identity, record, keys, &message).ok()?
            }
            _ => session::decrypt(&self.identity, record, &SignalMessage::parse(bytes).ok()?).ok()?,
        };
        self.sessions.insert(from, read.record.into_bytes());
        unpadded(&read.plaintext)
    }

    /// Whether a text of a device answers what it wrote, in so many words or by repeating what it wrote there last: to
    /// that nothing is said, or two that say what they hear would talk for ever.
    fn is_answer(&self, from: DeviceId, text: &str, quoted: Option<&str>) -> bool {
        let last = self.sent.iter().rfind(|written| written.place == Place::Device(from));
        let repeats = last.is_some_and(|last| !last.text.is_empty() && text.contains(&last.text));
        repeats || self.sent.iter().any(|written| quoted == Some(written.id.as_str()))
    }

    /// Asks for a message again, with the keys to begin anew.
    fn retry_receipt(&self, id: &str) -> Node {
        let signed = &self.signed_pre_key;
        let [_, key_id @ ..] = signed.id.to_be_bytes();
        let skey = Node::new("skey")
            .child(Node::new("id").bytes(key_id))
            .child(Node::new("value").bytes(*signed.pair.public().as_bytes()))
            .child(Node::new("signature").bytes(signed.signature));
        let keys = Node::new("keys")
            .child(Node::new("type").bytes([5]))
            .child(Node::new("identity").bytes(*self.identity.public().as_bytes()))
            .child(skey);
        let retry = Node::new("retry").attr("count", "1").attr("id", id).attr("v", "1").attr("error", "0");
        let registration = Node::new("registration").bytes(self.identity.registration_id().to_be_bytes());
        Node::new("receipt").attr("id", id).attr("type", "retry").child(retry).child(registration).child(keys)
    }
}

impl World {
    /// A contact gets a stanza of a client: a text comes back, and what could not be read is asked for again or sent
    /// again.
    pub(in crate::core) fn contact_hears(
        &mut self,
        contact: DeviceId,
        from: DeviceId,
        stanza: &Node,
        cx: &mut Cx<'_>,
    ) {
        let kind = stanza.find_attr("type").map(ToString::to_string);
        match (stanza.tag.as_str(), kind.as_deref()) {
            ("message", _) => self.contact_reads(contact, from, stanza, cx),
            ("receipt", Some("retry")) => self.send_again(contact, from, stanza, cx),
            ("receipt", _) => self.counters.contact_receipts += 1,
            _ => {}
        }
    }

    fn contact_reads(&mut self, contact: DeviceId, from: DeviceId, stanza: &Node, cx: &mut Cx<'_>) {
        let Some(hears) = self.contacts.get_mut(&contact) else { return };
        let id = stanza.find_attr("id").map(ToString::to_string).unwrap_or_default();
        let chat = stanza.find_attr("from").and_then(jid_of).unwrap_or_else(|| pn(from));
        let group = group_id(&chat);
        let is_misheard = hears.mishears > 0;
        hears.mishears = hears.mishears.saturating_sub(1);
        let read = if is_misheard { None } else { hears.read_all(from, group, stanza) };
        // One that is linked anew says nothing of what was written to it alone: its writer is told by the server.
        let Some(message) = read else {
            if is_misheard || group.is_some() {
                let receipt = hears.retry_receipt(&id).attr("t", cx.unix_s().to_string());
                let stanza = self.receipt_of(contact, &chat, receipt);
                self.deliveries.push_back(Delivery { from: contact, to: from, stanza });
            }
            return;
        };
        let Some(text) = wording::text_of(&message) else { return };
        let quoted = wording::quoted_of(&message);
        let is_answer = hears.is_answer(from, &text, quoted.as_deref());
        self.counters.contact_heard += 1;
        self.heard.push(Heard {
            t: cx.unix_ms,
            contact: contact.0 - FIRST_CONTACT,
            user: from.0.to_string(),
            group: group.map(|group| group_jid(group).to_string()),
            id,
            text: text.clone(),
            quoted,
        });
        // In a group ten of them would.
        if !is_answer && group.is_none() {
            // The account is known, or it could not have written.
            let _ = self.say(contact, Place::Device(from), Wording::Text, &text, cx);
        }
    }

    /// A receipt of a contact as its receiver gets it, in the chat that it is about.
    fn receipt_of(&self, contact: DeviceId, chat: &Jid, receipt: Node) -> Node {
        match group_id(chat).and_then(|id| self.groups.get(&id)) {
            Some(group) => {
                receipt.attr_jid("from", chat.clone()).attr_jid("participant", group.address(contact))
            }
            None => receipt.attr_jid("from", address_like(contact, chat)),
        }
    }
}

fn unpadded(padded: &[u8]) -> Option<Vec<u8>> {
    let len = padded.len().checked_sub(usize::from(*padded.last()?))?;
    padded.get(..len).map(<[u8]>::to_vec)
}
