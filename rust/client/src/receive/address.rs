//! Who sent a message, and under which names their records are kept.
//!
//! An account has two addresses, a phone number and a LID, and a peer may go over from one to the other at any time; on
//! the wire nothing of a Signal session depends on either. So the records of a device have one name, its LID when
//! that is known; those that lie under the phone number are moved when they are used next.

use runner_proto::{
    jid::{Jid, Server},
    node::NodeRef,
};

use crate::record::{RecordKey, RecordKind};

/// Who wrote a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    /// The device, as the stanza names it.
    pub(super) device: Jid,
    /// The other address of the same device, when the stanza names that too.
    pub(super) other: Option<Jid>,
    /// The group, list or status that it wrote to.
    pub(super) group: Option<Jid>,
}

impl Sender {
    /// The sender of a `<message>`. `None`: it has no sender that could be one.
    pub(super) fn of(message: NodeRef<'_>) -> Option<Self> {
        let from = message.attr("from")?.to_jid()?;
        let participant = message.attr("participant").and_then(|value| value.to_jid());
        let (device, group, keys) = match participant {
            Some(participant) => (participant, Some(from), ["participant_lid", "participant_pn"]),
            None => (from, None, ["sender_lid", "sender_pn"]),
        };
        let [lid, pn] = keys;
        let key = if is_lid(&device) { pn } else { lid };
        let other = message.attr(key).and_then(|value| value.to_jid()).filter(|other| {
            // The attribute is the server's word; one of the same kind would be no other address.
            is_lid(other) != is_lid(&device) && other.server.has_devices()
        });
        let other = other.map(|other| Jid { device: device.device, ..other });
        Some(Self { device, other, group })
    }

    /// The record that says what the sender's other address is, needed when the stanza does not.
    pub(super) fn mapping(&self) -> RecordKey {
        mapping_of(&self.device)
    }

    /// The other address, by the stanza or else by the mapping record.
    pub(super) fn other_by(&self, mapping: Option<&[u8]>) -> Option<Jid> {
        self.other.clone().or_else(|| other_of(&self.device, mapping))
    }
}

/// The other address of a device, by its mapping record.
pub(crate) fn other_of(device: &Jid, mapping: Option<&[u8]>) -> Option<Jid> {
    // As Baileys writes it: a JSON text of digits.
    let user = std::str::from_utf8(mapping?).ok()?.trim_matches('"');
    let is_number = !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_digit());
    let server = if is_lid(device) { Server::Pn } else { Server::Lid };
    is_number.then(|| Jid::device(user, device.device, server))
}

/// Both mapping records of a phone number and a LID that belong together.
pub(crate) fn mappings(one: &Jid, other: &Jid) -> [(RecordKey, Vec<u8>); 2] {
    let value = |jid: &Jid| format!("\"{}\"", jid.user).into_bytes();
    [(mapping_of(one), value(other)), (mapping_of(other), value(one))]
}

/// The record that says what the other address of this user is.
pub(crate) fn mapping_of(jid: &Jid) -> RecordKey {
    let suffix = if is_lid(jid) { "_reverse" } else { "" };
    RecordKey::new(RecordKind::LidMapping, format!("{}{suffix}", jid.user))
}

/// The names of a device's records: where they are kept, and where they may lie still.
pub(crate) fn names(device: &Jid, other: Option<&Jid>) -> (String, Option<String>) {
    match other {
        Some(other) if is_lid(other) => (address(other), Some(address(device))),
        other => (address(device), other.map(address)),
    }
}

/// `user[_agent].device`. docs/protocol.md, "Messages".
pub(crate) fn address(jid: &Jid) -> String {
    let agent = match jid.server {
        Server::Lid => "_1",
        Server::Hosted => "_128",
        Server::HostedLid => "_129",
        _ => "",
    };
    format!("{}{agent}.{}", jid.user, jid.device)
}

/// The name of a sender key: the group and the device, written as Baileys names its files.
pub(crate) fn sender_key(group: &Jid, address: &str) -> RecordKey {
    let (user, device) = address.rsplit_once('.').unwrap_or((address, "0"));
    RecordKey::new(RecordKind::SenderKey, format!("{group}--{user}--{device}").replace(':', "-"))
}

/// Whether it is an address by a number that hides the phone number.
pub(crate) fn is_lid(jid: &Jid) -> bool {
    matches!(jid.server, Server::Lid | Server::HostedLid)
}

#[cfg(test)]
mod tests {
    use runner_proto::node::{self, Limits, Node, Scratch};

    use super::*;

    fn jid(text: &str) -> Jid {
        text.parse().expect("a jid")
    }

    fn sender(message: &Node) -> Sender {
        let (mut bytes, mut scratch) = (Vec::new(), Scratch::new());
        node::encode(message, &mut bytes);
        Sender::of(node::decode(&bytes, &mut scratch, &Limits::default()).expect("a node")).expect("a sender")
    }

    fn message(from: &str) -> Node {
        Node::new("message").attr_jid("from", jid(from))
    }

    #[test]
    fn a_device_has_one_name_whichever_address_it_writes_from() {
        let by_pn = sender(&message("15550002222:3@s.whatsapp.net").attr_jid("sender_lid", jid("777@lid")));
        let by_lid = sender(&message("777:3@lid").attr_jid("sender_pn", jid("15550002222@s.whatsapp.net")));
        for sender in [&by_pn, &by_lid] {
            let (kept, still) = names(&sender.device, sender.other.as_ref());
            assert_eq!((kept.as_str(), still.as_deref()), ("777_1.3", Some("15550002222.3")));
        }
        let unknown = sender(&message("15550002222@s.whatsapp.net"));
        assert_eq!(names(&unknown.device, None), ("15550002222.0".to_owned(), None));
        assert_eq!(unknown.mapping().id, "15550002222");
        assert_eq!(unknown.other_by(Some(b"\"777\"")), Some(jid("777@lid")));
        assert_eq!(unknown.other_by(Some(b"{}")), None);
        assert_eq!(by_lid.mapping().id, "777_reverse");
    }

    #[test]
    fn in_a_group_the_participant_is_the_sender() {
        let sender = sender(
            &message("123-456@g.us")
                .attr_jid("participant", jid("777:2@lid"))
                .attr_jid("participant_pn", jid("15550002222@s.whatsapp.net")),
        );
        assert_eq!(sender.group, Some(jid("123-456@g.us")));
        assert_eq!(sender.other, Some(jid("15550002222:2@s.whatsapp.net")));
        assert_eq!(sender_key(&jid("123-456@g.us"), "777_1.2").id, "123-456@g.us--777_1--2");
    }

    #[test]
    fn an_attribute_of_the_same_kind_is_no_other_address() {
        let sender = sender(&message("777@lid").attr_jid("sender_pn", jid("888@lid")));
        assert_eq!(sender.other, None);
    }
}
