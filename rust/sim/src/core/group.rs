//! Groups: who is in them, and what members write to them.
//!
//! docs/protocol.md, "Groups": a group's message has one ciphertext for all devices, and one for each device that
//! must learn the sender key first.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use runner_proto::jid::{Jid, Server};
use runner_proto::node::{Node, NodeRef};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

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
    /// Only its admin writes to it: the member with the lowest number.
    is_announcement: bool,
}

/// Refused: the members are not called as the sender believes. docs/protocol.md, "Groups".
const STALE_ADDRESSING: u32 = 421;
/// Refused: whoever writes may not. The number is ours, as that of a query.
const FORBIDDEN: u32 = 403;

/// All groups, by their numbers.
pub(super) type Groups = BTreeMap<GroupId, Group>;

impl Group {
    /// What a member is called here.
    pub(super) fn address(&self, device: DeviceId) -> Jid {
        self.addresses(device).0
    }

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
        let node = if self.is_announcement { node.child(Node::new("announcement")) } else { node };
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
            is_announcement: false,
        });
        id
    }

    /// What a message to a group is refused with, or, in its ack, the hash of the devices that it should have been for
    /// when its sender knows others.
    pub(super) fn judge_in_group(&self, from: DeviceId, message: NodeRef<'_>) -> Result<Option<String>, u32> {
        let to = message.attr("to").and_then(|to| to.to_jid());
        let Some(id) = to.as_ref().and_then(group_id) else { return Ok(None) };
        let group = self.groups.get(&id).filter(|group| group.members.contains(&from.0)).ok_or(FORBIDDEN)?;
        if group.is_announcement && group.members.first() != Some(&from.0) {
            return Err(FORBIDDEN);
        }
        if message.attr("addressing_mode").is_some_and(|mode| mode != *group.addressing_mode()) {
            return Err(STALE_ADDRESSING);
        }
        let Some(theirs) = message.attr("phash") else { return Ok(None) };
        let of =
            |&member: &u64| self.listed_devices_of(member).into_iter().map(move |number| (member, number));
        let ours = phash(group.members.iter().flat_map(of).map(|device| group.address(device)));
        Ok((theirs != *ours).then_some(ours))
    }

    /// The devices of a group's members, in order.
    pub(super) fn devices_in(&self, id: GroupId) -> Vec<DeviceId> {
        let members = self.groups.get(&id).into_iter().flat_map(|group| &group.members);
        let of = |&member: &u64| self.devices_of(member).into_iter().map(move |number| (member, number));
        members.flat_map(of).collect()
    }
}

impl Hub {
    /// Makes a group, or changes one.
    pub(super) fn make_group(&mut self, new: NewGroup, cx: &Cx<'_>) -> Result<Value, String> {
        if let Some(jid) = &new.jid {
            return self.change_group(jid, &new, cx);
        }
        if new.members.is_empty() {
            return Err("members: a group needs somebody in it".to_owned());
        }
        let made = self.world.groups.range(FIRST_MADE..).count() as u64;
        let id = FIRST_MADE + made;
        let members = new.members.into_iter().collect();
        let group = Group {
            subject: new.subject,
            created_unix_s: cx.unix_s(),
            members,
            is_lid: new.lid.unwrap_or(false),
            is_announcement: new.announce.unwrap_or(false),
        };
        self.world.groups.insert(id, group);
        Ok(json!({ "jid": group_jid(id).to_string() }))
    }

    /// Changes a group, and tells the devices of whoever is in it, or was, who came, who left and who may write. Of other
    /// addresses nobody is told: whoever writes to the old ones is refused.
    fn change_group(&mut self, jid: &Jid, change: &NewGroup, cx: &Cx<'_>) -> Result<Value, String> {
        let id = group_id(jid).ok_or("jid: that is no group")?;
        let before = self.world.devices_in(id);
        let Some(group) = self.world.groups.get_mut(&id) else { return Err("jid: no such group".to_owned()) };
        group.is_lid = change.lid.unwrap_or(group.is_lid);
        let added: Vec<_> = change.add.iter().copied().filter(|user| group.members.insert(*user)).collect();
        let removed: Vec<_> =
            change.remove.iter().copied().filter(|user| group.members.remove(user)).collect();
        let mut told: Vec<_> = [("add", &added), ("remove", &removed)]
            .into_iter()
            .filter(|(_, users)| !users.is_empty())
            .map(|(what, users)| {
                let entry = |user: &u64| Node::new("participant").attr_jid("jid", group.address((*user, 0)));
                Node::new(what).children(users.iter().map(entry))
            })
            .collect();
        if let Some(is_announcement) = change.announce.filter(|is| *is != group.is_announcement) {
            group.is_announcement = is_announcement;
            told.push(Node::new(if is_announcement { "announcement" } else { "not_announcement" }));
        }
        let admin = group.members.first().map(|admin| group.address((*admin, 0)));
        if !removed.is_empty() {
            self.world.contacts.values_mut().for_each(|contact| contact.forget_key(id));
        }
        let mut devices: BTreeSet<_> = self.world.devices_in(id).into_iter().collect();
        devices.extend(before);
        for child in told {
            let mut notification = Node::new("notification")
                .attr("id", self.world.next_stanza_id())
                .attr_jid("from", group_jid(id))
                .attr("type", "w:gp2")
                .attr("t", cx.unix_s().to_string())
                .child(child);
            if let Some(admin) = &admin {
                notification = notification.attr_jid("participant", admin.clone());
            }
            for to in devices.iter().copied().filter(|device| self.world.accounts.contains_key(device)) {
                let stanza = notification.clone();
                self.world.deliveries.push_back(Delivery { from: to, to, stanza });
            }
        }
        Ok(json!({ "jid": jid.to_string() }))
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

/// `2:` and eight characters that name a set of devices. docs/protocol.md, "Sending".
fn phash(devices: impl Iterator<Item = Jid>) -> String {
    let mut named: Vec<_> =
        devices.map(|jid| format!("{}.0:{}@{}", jid.user, jid.device, jid.server_name())).collect();
    named.sort_unstable();
    let digest = Sha256::digest(named.concat());
    format!("2:{}", STANDARD_NO_PAD.encode(&digest[..6]))
}

/// The JID of a group.
pub(super) fn group_jid(id: GroupId) -> Jid {
    Jid::new(id.to_string(), Server::Group)
}

/// The number of a group's JID.
pub(super) fn group_id(jid: &Jid) -> Option<GroupId> {
    (jid.server == Server::Group).then(|| jid.user.parse().ok()).flatten()
}
