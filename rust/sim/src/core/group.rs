//! Groups: who is in them, and what members write to them.
//!
//! docs/protocol.md, "Messages": a group's message has one ciphertext for all devices, and one for each device that
//! must learn the sender key first.

use std::collections::{BTreeMap, BTreeSet};

use runner_proto::jid::{Jid, Server};
use runner_proto::node::{Node, NodeRef};
use serde_json::{Value, json};

use super::command::NewGroup;
use super::contact::{CONTACTS, FIRST_CONTACT};
use super::directory::{child, children, device_of, pn};
use super::hub::Hub;
use super::peer::Peer;
use super::relay::{Delivery, FOR_ALL, KEPT_OF_MESSAGE, jid, with_kept};
use super::stanza;
use super::world::{Cx, DeviceId, World};

/// The number of a group's JID.
pub(super) type GroupId = u64;

/// The group of a user and all contacts is this number and the username.
const FIRST_OF_USER: GroupId = 120_363_000_000_000_000;
/// The first group that is made on command.
const FIRST_MADE: GroupId = 120_363_900_000_000_000;

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    subject: String,
    created_unix_s: u64,
    members: BTreeSet<u64>,
    /// Its members are called by their LIDs.
    is_lid: bool,
}

/// All groups, by their numbers.
pub(super) type Groups = BTreeMap<GroupId, Group>;

impl Group {
    /// A member's address here, and its other one.
    fn addresses(&self, device: DeviceId) -> (Jid, (&'static str, Jid)) {
        if self.is_lid {
            (stanza::lid(device), ("pn", pn(device)))
        } else {
            (pn(device), ("lid", stanza::lid(device)))
        }
    }

    fn addressing_mode(&self) -> &'static str {
        if self.is_lid { "lid" } else { "pn" }
    }

    /// `<group>`, as who asks for it gets it.
    fn to_node(&self, id: GroupId) -> Node {
        let created = self.created_unix_s.to_string();
        let node = Node::new("group")
            .attr("id", id.to_string())
            .attr("subject", self.subject.as_str())
            .attr("creation", created.as_str())
            .attr("s_t", created)
            .attr("addressing_mode", self.addressing_mode())
            .attr("size", self.members.len().to_string());
        self.members.iter().enumerate().fold(node, |node, (at, &member)| {
            let (address, (key, other)) = self.addresses((member, 0));
            let key = if key == "pn" { "phone_number" } else { key };
            let mut entry = Node::new("participant").attr_jid("jid", address).attr_jid(key, other);
            if at == 0 {
                entry = entry.attr("type", "superadmin");
            }
            node.child(entry)
        })
    }

    /// A `<message>` of a member, without its content.
    pub(super) fn message_from(&self, id: GroupId, from: DeviceId, stanza: Node) -> Node {
        let (address, (key, other)) = self.addresses(from);
        stanza
            .attr_jid("from", group_jid(id))
            .attr_jid("participant", address)
            .attr_jid(format!("participant_{key}"), other.to_non_ad())
            .attr("addressing_mode", self.addressing_mode())
    }
}

impl World {
    /// The group of a user and all contacts, made when it is first asked for.
    pub(super) fn group_of_user(&mut self, username: u64, unix_s: u64) -> GroupId {
        let id = FIRST_OF_USER + username;
        self.groups.entry(id).or_insert_with(|| Group {
            subject: "Contacts".to_owned(),
            created_unix_s: unix_s,
            members: (0..CONTACTS).map(|index| FIRST_CONTACT + u64::from(index)).chain([username]).collect(),
            is_lid: false,
        });
        id
    }

    /// The devices of a group's members, in order.
    pub(super) fn devices_in(&self, id: GroupId) -> Vec<DeviceId> {
        let members = self.groups.get(&id).into_iter().flat_map(|group| &group.members);
        let of = |&member: &u64| self.devices_of(member).into_iter().map(move |number| (member, number));
        members.flat_map(of).collect()
    }
}

impl Hub {
    /// Makes a group.
    pub(super) fn make_group(&mut self, new: NewGroup, cx: &Cx<'_>) -> Result<Value, String> {
        if new.members.is_empty() {
            return Err("members: a group needs somebody in it".to_owned());
        }
        let made = self.world.groups.range(FIRST_MADE..).count() as u64;
        let id = FIRST_MADE + made;
        let members = new.members.into_iter().collect();
        let group = Group { subject: new.subject, created_unix_s: cx.unix_s(), members, is_lid: new.lid };
        self.world.groups.insert(id, group);
        Ok(json!({ "jid": group_jid(id).to_string() }))
    }
}

impl Peer {
    /// A member asks who is in a group.
    pub(super) fn on_group_query(&mut self, query: NodeRef<'_>, world: &mut World, cx: &Cx<'_>) {
        let id = query.attr("to").and_then(|to| to.to_jid()).and_then(|to| group_id(&to));
        let known = id.and_then(|id| Some((id, world.groups.get(&id)?)));
        match (known, self.username()) {
            (None, _) => self.error(query, 404, "item-not-found", world, cx),
            (Some((id, group)), Some(username)) if group.members.contains(&username) => {
                let told = group.to_node(id);
                self.result(query, world, cx, Some(told));
            }
            (Some(_), _) => self.error(query, 403, "forbidden", world, cx),
        }
    }

    /// Hands on what a client wrote to a group: to all other devices of it, or to the one that asked for it again.
    pub(super) fn relay_group_message(&mut self, message: &Node, to: &Jid, world: &mut World, cx: &Cx<'_>) {
        let (Some(from), Some(id)) = (self.device, group_id(to)) else { return };
        let Some(group) = world.groups.get(&id).filter(|group| group.members.contains(&from.0)) else {
            return;
        };
        let asked = jid(message, "participant").and_then(|device| device_of(&device));
        let receivers = asked.map_or_else(|| world.devices_in(id), |device| vec![device]);
        let copies = child(message, "participants").map(children).unwrap_or_default();
        let is_for_all = |child: &&Node| child.tag == "enc" || FOR_ALL.contains(&child.tag.as_str());
        for receiver in receivers.into_iter().filter(|receiver| *receiver != from) {
            let stanza = with_kept(Node::new("message"), message, &KEPT_OF_MESSAGE)
                .attr("t", cx.unix_s().to_string())
                .attr("notify", from.0.to_string());
            let mut stanza = group.message_from(id, from, stanza);
            let own =
                copies.iter().find(|copy| jid(copy, "jid").and_then(|of| device_of(&of)) == Some(receiver));
            for content in own.map(children).into_iter().flatten() {
                stanza = stanza.child(content.clone());
            }
            for content in children(message).iter().filter(is_for_all) {
                stanza = stanza.child(content.clone());
            }
            world.counters.relayed_messages += 1;
            world.deliveries.push_back(Delivery { from, to: receiver, stanza });
        }
    }
}

/// The JID of a group.
pub(super) fn group_jid(id: GroupId) -> Jid {
    Jid::new(id.to_string(), Server::Group)
}

/// The number of a group's JID.
pub(super) fn group_id(jid: &Jid) -> Option<GroupId> {
    (jid.server == Server::Group).then(|| jid.user.parse().ok()).flatten()
}
