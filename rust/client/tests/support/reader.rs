//! A device in groups that the client writes to: a contact, and the sender keys that it was told.

use std::collections::HashMap;

use runner_proto::node::{Node, NodeContent};
use runner_signal::{SenderKeyDistribution, SenderKeyMessage, group};

use super::{contact::Contact, peer::attr};

/// One device of a member.
pub struct Reader {
    pub contact: Contact,
    /// What was told of the client's sender key, by group.
    keys: HashMap<String, Vec<u8>>,
}

impl Reader {
    pub fn new(jid: &str, seed: u8) -> Self {
        Self { contact: Contact::new(jid, seed), keys: HashMap::new() }
    }

    /// The `Message` that the client wrote to a group, as this device reads it; `None`: it cannot.
    pub fn hear(&mut self, message: &Node) -> Option<Vec<u8>> {
        let own = self.contact.hear(message);
        if let Some((group, bytes)) = own.as_deref().and_then(distribution) {
            let told = SenderKeyDistribution::parse(&bytes).expect("ours");
            let record = self.keys.get(&group).map(Vec::as_slice);
            if let Some(changed) = group::accept(record, &told).expect("a record") {
                self.keys.insert(group, changed.into_bytes());
            }
        }
        match skmsg(message) {
            None => own.map(|own| without_distribution(&own)).filter(|rest| !rest.is_empty()),
            Some(bytes) => {
                let group = attr(message, "to");
                let sealed = SenderKeyMessage::parse(&bytes).expect("ours");
                let read = group::decrypt(self.keys.get(&group).map(Vec::as_slice), &sealed).ok()?;
                self.keys.insert(group, read.record.into_bytes());
                let padding = usize::from(*read.plaintext.last()?);
                Some(read.plaintext[..read.plaintext.len() - padding].to_vec())
            }
        }
    }

    /// Whether the message tells it the client's sender key.
    pub fn is_told(&self, message: &Node) -> bool {
        self.contact.enc_for(message).is_some()
    }

    /// A retry receipt for a message of a group.
    pub fn retry(&self, group: &str, id: &str, count: u32, error: u32, with_keys: bool) -> Node {
        let receipt = self.contact.retry(id, count, error, with_keys);
        let NodeContent::Nodes(children) = receipt.content else { panic!("a receipt") };
        Node::new("receipt")
            .attr("id", id)
            .attr("type", "retry")
            .attr("t", "1767225600")
            .attr_jid("from", super::jid(group))
            .attr_jid("participant", self.contact.jid.clone())
            .children(children)
    }

    /// It has lost all keys of groups.
    pub fn forget_keys(&mut self) {
        self.keys.clear();
    }
}

/// The one ciphertext for all of a group.
pub fn skmsg(message: &Node) -> Option<Vec<u8>> {
    let NodeContent::Nodes(children) = &message.content else { return None };
    let enc = children.iter().find(|child| child.tag == "enc" && attr(child, "type") == "skmsg")?;
    match &enc.content {
        NodeContent::Bytes(bytes) => Some(bytes.clone()),
        _ => None,
    }
}

/// The key id and the number in the chain of a message to a group.
pub fn key_of(message: &Node) -> (u32, u32) {
    let bytes = skmsg(message).expect("a ciphertext for all");
    let sealed = SenderKeyMessage::parse(&bytes).expect("ours");
    (sealed.key_id, sealed.iteration)
}

/// Length-delimited fields at the top of a `Message`, each with its whole encoding.
fn fields(mut message: &[u8]) -> Vec<(u32, Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let whole = message;
        let varint = |bytes: &mut &[u8]| {
            let mut value = 0u64;
            for shift in (0..).step_by(7) {
                let (&byte, rest) = bytes.split_first().expect("a varint");
                *bytes = rest;
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    return value;
                }
            }
            value
        };
        let tag = varint(&mut message);
        assert_eq!(tag & 7, 2, "length-delimited");
        let len = varint(&mut message) as usize;
        let content = message[..len].to_vec();
        message = &message[len..];
        found.push(((tag >> 3) as u32, content, whole[..whole.len() - message.len()].to_vec()));
    }
    found
}

fn distribution(message: &[u8]) -> Option<(String, Vec<u8>)> {
    let (_, told, _) = fields(message).into_iter().find(|(number, ..)| *number == 2)?;
    let of = |wanted: u32| fields(&told).into_iter().find(|(number, ..)| *number == wanted);
    Some((String::from_utf8(of(1)?.1).expect("a jid"), of(2)?.1))
}

fn without_distribution(message: &[u8]) -> Vec<u8> {
    fields(message).into_iter().filter(|(number, ..)| *number != 2).flat_map(|(.., whole)| whole).collect()
}
