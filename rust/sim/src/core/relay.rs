//! Messages and receipts between the clients of this server: taken apart and delivered, never opened.
//!
//! docs/protocol.md, "Messages": each `<to jid>` of a message has a ciphertext for one device.

use runner_proto::jid::Jid;
use runner_proto::node::{AttrValue, Node, NodeContent, NodeRef, encode};

use super::directory::{address_like, child, children, device_of, pn};
use super::group;
use super::hub::Hub;
use super::peer::Peer;
use super::stanza;
use super::world::{Cx, DeviceId, World};

/// Attributes of a message that its receivers see.
pub(super) const KEPT_OF_MESSAGE: [&str; 3] = ["id", "type", "edit"];
/// Attributes of a receipt that its receiver sees.
const KEPT_OF_RECEIPT: [&str; 4] = ["id", "type", "recipient", "category"];
/// Children of a message that go to every device.
pub(super) const FOR_ALL: [&str; 2] = ["device-identity", "meta"];

/// A stanza on its way from one device to another.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) from: DeviceId,
    pub(super) to: DeviceId,
    pub(super) stanza: Node,
}

impl Peer {
    /// Hands on what a client wrote to others.
    pub(super) fn relay_message(&mut self, message: NodeRef<'_>, world: &mut World, cx: &Cx<'_>) {
        let Some(from) = self.device else { return };
        let message = message.to_node();
        let Some(to) = jid(&message, "to") else { return };
        if group::group_id(&to).is_some() {
            return self.relay_group_message(&message, &to, world, cx);
        }
        let fan_out = child(&message, "participants").map(children).unwrap_or_default();
        let mut deliveries: Vec<_> =
            fan_out.iter().filter_map(|copy| Some((jid(copy, "jid")?, children(copy).to_vec()))).collect();
        if deliveries.is_empty() {
            // A message sent again is for one device.
            let encs = children(&message).iter().filter(|child| child.tag == "enc").cloned().collect();
            deliveries.push((to.clone(), encs));
        }
        for (device, encs) in deliveries {
            let Some(receiver) = device_of(&device) else { continue };
            let mut stanza = with_kept(Node::new("message"), &message, &KEPT_OF_MESSAGE)
                .attr("t", cx.unix_s().to_string())
                .attr("notify", format!("{}", from.0));
            stanza = with_both_addresses(stanza, from, &device);
            if receiver.0 == from.0 {
                // An own other device learns to whom it went.
                stanza = stanza.attr_jid("recipient", to.clone());
            }
            for content in encs {
                stanza = stanza.child(content);
            }
            for aside in children(&message).iter().filter(|child| FOR_ALL.contains(&child.tag.as_str())) {
                stanza = stanza.child(aside.clone());
            }
            world.counters.relayed_messages += 1;
            world.deliveries.push_back(Delivery { from, to: receiver, stanza });
        }
    }

    /// Tells a sender of a receipt, if it is one of this server's clients.
    pub(super) fn relay_receipt(&mut self, receipt: NodeRef<'_>, world: &mut World, cx: &Cx<'_>) {
        let Some(from) = self.device else { return };
        let Some(to) = receipt.attr("to").and_then(|to| to.to_jid()) else { return };
        let receipt = receipt.to_node();
        let is_group = group::group_id(&to).is_some();
        // In a group the sender is beside the chat.
        let Some(sender) = (if is_group { jid(&receipt, "participant") } else { Some(to.clone()) }) else {
            return;
        };
        let Some(receiver) = device_of(&sender).filter(|receiver| world.is_known(*receiver)) else { return };
        let stanza =
            with_kept(Node::new("receipt"), &receipt, &KEPT_OF_RECEIPT).attr("t", cx.unix_s().to_string());
        let stanza = if is_group {
            stanza.attr_jid("from", to).attr_jid("participant", address_like(from, &sender))
        } else {
            stanza.attr_jid("from", address_like(from, &to))
        };
        let stanza = children(&receipt).iter().fold(stanza, |stanza, child| stanza.child(child.clone()));
        world.counters.relayed_receipts += 1;
        world.deliveries.push_back(Delivery { from, to: receiver, stanza });
    }
}

impl World {
    /// Breaks the ciphertexts of a message whose turn it is; what is sent again has a `count` and is let through.
    fn spoil(&mut self, message: &mut Node) {
        let every = u64::from(self.settings.spoil_every);
        let NodeContent::Nodes(children) = &mut message.content else { return };
        let is_first = |enc: &&mut Node| enc.tag == "enc" && enc.find_attr("count").is_none();
        let mut encs = children.iter_mut().filter(is_first).peekable();
        if every == 0 || encs.peek().is_none() {
            return;
        }
        self.counters.messages_seen += 1;
        if !self.counters.messages_seen.is_multiple_of(every) {
            return;
        }
        self.counters.messages_spoiled += 1;
        for enc in encs {
            if let NodeContent::Bytes(bytes) = &mut enc.content {
                let middle = bytes.len() / 2;
                bytes.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 0xff);
            }
        }
    }

    /// True for a device that has an account, or is a contact.
    fn is_known(&self, device: DeviceId) -> bool {
        self.accounts.contains_key(&device) || self.contacts.contains_key(&device)
    }
}

impl Hub {
    /// Delivers what was handed on: at once to who is connected, later to who is not.
    pub(super) fn deliver(&mut self, cx: &mut Cx<'_>) {
        while let Some(Delivery { from, to, mut stanza }) = self.world.deliveries.pop_front() {
            if stanza.tag == "message" {
                self.world.spoil(&mut stanza);
            }
            if self.world.contacts.contains_key(&to) {
                self.world.contact_hears(to, from, &stanza, cx);
                continue;
            }
            let live = self.world.accounts.get(&to).and_then(|account| account.live);
            match live.and_then(|id| self.peers.get_mut(&id)).filter(|peer| peer.logged_in) {
                Some(peer) => {
                    let id = peer.id;
                    peer.push(&stanza, &mut self.world, cx);
                    self.touch(id, cx);
                }
                None => {
                    let mut plain = Vec::new();
                    encode(&stanza, &mut plain);
                    self.world.queue_offline(to, plain.into());
                }
            }
        }
    }
}

/// The sender in the receiver's address space, and its other address beside it.
pub(super) fn with_both_addresses(stanza: Node, from: DeviceId, receiver: &Jid) -> Node {
    let as_lid = receiver.server == runner_proto::jid::Server::Lid;
    let (key, other) = if as_lid { ("sender_pn", pn(from)) } else { ("sender_lid", stanza::lid(from)) };
    stanza.attr_jid("from", address_like(from, receiver)).attr_jid(key, other.to_non_ad())
}

pub(super) fn with_kept(mut stanza: Node, from: &Node, keys: &[&str]) -> Node {
    for key in keys {
        if let Some(value) = from.find_attr(key) {
            stanza = stanza.attr(*key, value.clone());
        }
    }
    stanza
}

pub(super) fn jid(node: &Node, key: &str) -> Option<Jid> {
    match node.find_attr(key)? {
        AttrValue::Jid(jid) => Some(jid.clone()),
        AttrValue::Str(text) => text.parse().ok(),
    }
}
