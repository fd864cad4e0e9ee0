//! Who has which devices, and the public keys by which they are written to first (docs/protocol.md, "Pre-keys").
//!
//! A device of the fleet is there with the keys that its credentials were written with, also before it has ever logged
//! in; what it uploads takes their place.

use std::collections::{HashMap, VecDeque};

use runner_proto::jid::{Jid, Server};
use runner_proto::node::{Node, NodeContent, NodeRef};
use sha1::{Digest as _, Sha1};

use super::fleet::{DEVICE, FIRST_USERNAME, Fleet, lid_user};
use super::stanza;
use super::world::{DeviceId, World};

/// What the server knows of a device's keys.
#[derive(Debug, Clone)]
pub(super) struct KeyBundle {
    registration_id: u32,
    identity: [u8; 32],
    signed: SignedKey,
    /// The device has uploaded keys, so that how many there are is known.
    is_uploaded: bool,
    /// Each is given out once.
    one_time: VecDeque<(u32, [u8; 32])>,
}

#[derive(Debug, Clone)]
struct SignedKey {
    id: u32,
    value: [u8; 32],
    signature: [u8; 64],
}

/// A bundle as it is given out, with one of the one-time keys.
pub(super) type GivenBundle = runner_signal::Bundle;

/// The bundles that were uploaded or asked for.
#[derive(Debug, Default)]
pub(super) struct Directory {
    bundles: HashMap<DeviceId, KeyBundle>,
}

impl Directory {
    /// What was known of a device is asked for anew.
    pub(super) fn forget(&mut self, device: DeviceId) {
        self.bundles.remove(&device);
    }
}

impl KeyBundle {
    /// Of a device of which the server has nothing.
    const fn nothing() -> Self {
        Self {
            registration_id: 0,
            identity: [0; 32],
            signed: SignedKey { id: 0, value: [0; 32], signature: [0; 64] },
            is_uploaded: true,
            one_time: VecDeque::new(),
        }
    }

    const fn is_nothing(&self) -> bool {
        self.registration_id == 0
    }

    /// `<digest>`. docs/protocol.md, "Pre-keys".
    fn digest(&self) -> Node {
        let mut hash = Sha1::new();
        for part in [&self.identity[..], &self.signed.value, &self.signed.signature] {
            hash.update(part);
        }
        self.one_time.iter().for_each(|(_, value)| hash.update(value));
        let id = |(id, _): &(u32, [u8; 32])| Node::new("id").bytes(&id.to_be_bytes()[1..]);
        let list = self.one_time.iter().map(id).fold(Node::new("list"), Node::child);
        Node::new("digest")
            .child(Node::new("registration").bytes(self.registration_id.to_be_bytes()))
            .child(Node::new("type").bytes([5]))
            .child(Node::new("identity").bytes(self.identity))
            .child(
                key_node("skey", self.signed.id, &self.signed.value)
                    .child(Node::new("signature").bytes(self.signed.signature)),
            )
            .child(list)
            .child(Node::new("hash").bytes(&hash.finalize()[..]))
    }

    /// The keys of a device of the fleet, as its credentials have them.
    fn of_fleet(fleet: Fleet, index: u32) -> Self {
        let identity = fleet.keys("identity", index);
        let signed = fleet.keys("signed pre-key", index);
        let signature = runner_xeddsa::sign(
            &identity.secret,
            &[&[5], &signed.public[..]].concat(),
            &fleet.nonce("signed pre-key signature", index),
        );
        Self {
            registration_id: fleet.registration_id(index),
            identity: identity.public,
            signed: SignedKey { id: 1, value: signed.public, signature },
            is_uploaded: false,
            one_time: VecDeque::from([(1, fleet.keys("pre-key 1", index).public)]),
        }
    }

    /// Reads an upload; one-time keys that are known already are not added twice.
    fn read(&mut self, upload: NodeRef<'_>) -> Option<()> {
        self.registration_id = number(upload.child("registration")?)?;
        self.identity = upload.child("identity")?.bytes()?.try_into().ok()?;
        if let Some(signed) = upload.child("skey") {
            let (id, value) = key(signed)?;
            let signature = signed.child("signature")?.bytes()?.try_into().ok()?;
            self.signed = SignedKey { id, value, signature };
        }
        for (id, value) in upload.child("list")?.children().filter_map(key) {
            if !self.one_time.iter().any(|(known, _)| *known == id) {
                self.one_time.push_back((id, value));
            }
        }
        Some(())
    }

    fn give(&mut self) -> GivenBundle {
        let public = runner_signal::PublicKey::new;
        GivenBundle {
            registration_id: self.registration_id,
            identity: public(self.identity),
            signed_pre_key_id: self.signed.id,
            signed_pre_key: public(self.signed.value),
            signature: self.signed.signature,
            pre_key: self.one_time.pop_front().map(|(id, value)| (id, public(value))),
        }
    }
}

impl World {
    /// Takes an upload of pre-keys; false when it cannot be read.
    pub(super) fn take_pre_keys(&mut self, device: DeviceId, upload: NodeRef<'_>) -> bool {
        // Keys of another identity are another device's.
        let mut bundle = self.bundle_of(device).cloned().unwrap_or(KeyBundle::nothing());
        let identity = upload.child("identity").and_then(|identity| identity.bytes());
        if identity != Some(&bundle.identity) {
            bundle.one_time.clear();
        }
        let is_read = bundle.read(upload).is_some();
        bundle.is_uploaded = is_read;
        if is_read {
            self.directory.bundles.insert(device, bundle);
        }
        is_read
    }

    /// The digest of what is known of a device; `None`: nothing is.
    pub(super) fn digest(&mut self, device: DeviceId) -> Option<Node> {
        self.bundle_of(device).filter(|bundle| !bundle.is_nothing()).map(|bundle| bundle.digest())
    }

    /// Takes a new signed pre-key; `Err`: the number with which it is refused.
    pub(super) fn rotate(&mut self, device: DeviceId, rotate: NodeRef<'_>) -> Result<(), u32> {
        let read = |skey: NodeRef<'_>| {
            let (id, value) = key(skey)?;
            Some(SignedKey { id, value, signature: skey.child("signature")?.bytes()?.try_into().ok()? })
        };
        let signed = rotate.child("skey").and_then(read).ok_or(400u32)?;
        let bundle = self.bundle_of(device).filter(|bundle| !bundle.is_nothing()).ok_or(409u32)?;
        let wire = [&[5], &signed.value[..]].concat();
        if !runner_signal::PublicKey::new(bundle.identity).verifies(&wire, &signed.signature) {
            return Err(406);
        }
        bundle.signed = signed;
        Ok(())
    }

    /// Loses what a device has uploaded.
    pub(super) fn lose_keys(&mut self, device: DeviceId) {
        self.directory.bundles.insert(device, KeyBundle::nothing());
    }

    /// One-time pre-keys left of a device that has uploaded any, or was linked here and has not yet.
    pub(super) fn pre_keys_left(&self, device: DeviceId) -> Option<usize> {
        match self.directory.bundles.get(&device) {
            Some(bundle) => bundle.is_uploaded.then_some(bundle.one_time.len()),
            None => {
                let is_known =
                    self.accounts.get(&device).is_some_and(|account| account.noise_public.is_some());
                (is_known && self.fleet.index_of(device).is_none()).then_some(0)
            }
        }
    }

    /// The bundle of a device, with a one-time key that nobody else gets.
    pub(super) fn give_bundle(&mut self, device: DeviceId) -> Option<GivenBundle> {
        self.bundle_of(device).filter(|bundle| !bundle.is_nothing()).map(KeyBundle::give)
    }

    fn bundle_of(&mut self, device: DeviceId) -> Option<&mut KeyBundle> {
        if !self.directory.bundles.contains_key(&device) {
            let bundle = if let Some(contact) = self.contacts.get(&device) {
                contact.bundle()
            } else {
                KeyBundle::of_fleet(self.fleet, self.fleet.index_of(device)?)
            };
            self.directory.bundles.insert(device, bundle);
        }
        self.directory.bundles.get_mut(&device)
    }

    /// The devices of a user that this server knows, in order.
    pub(super) fn devices_of(&self, username: u64) -> Vec<u32> {
        let contacts = self.contacts.keys().map(|device| (device, &()));
        let accounts = self.accounts.iter().filter(|(_, account)| !account.unlinked);
        let known = accounts.map(|(device, _)| device).chain(contacts.map(|(device, ())| device));
        let mut devices: Vec<_> =
            known.filter(|(of, _)| *of == username).map(|(_, number)| *number).collect();
        devices.sort_unstable();
        devices
    }

    /// The devices of a user as others are told: one that this server does not know has a primary one.
    pub(super) fn listed_devices_of(&self, username: u64) -> Vec<u32> {
        let devices = self.devices_of(username);
        if devices.is_empty() { vec![0] } else { devices }
    }

    /// The answer to a request for bundles.
    pub(super) fn bundles(&mut self, request: NodeRef<'_>, unix_s: u64) -> Node {
        let mut list = Node::new("list");
        for user in request.children() {
            let Some(jid) = user.attr("jid").and_then(|jid| jid.to_jid()) else { continue };
            let entry = Node::new("user").attr_jid("jid", jid.clone());
            let bundle = device_of(&jid).and_then(|device| self.give_bundle(device));
            list = list.child(match bundle {
                Some(bundle) => with_bundle(entry.attr("t", unix_s.to_string()), &bundle),
                None => entry.child(Node::new("error").attr("code", "404").attr("text", "item-not-found")),
            });
        }
        list
    }

    /// The answer to a user query: a user that this server does not know exists and has a primary device.
    pub(super) fn usync(&self, query: NodeRef<'_>) -> Node {
        let mut answer = Node::new("usync").attr("index", "0").attr("last", "true");
        for key in ["sid", "mode", "context"] {
            if let Some(value) = query.attr(key) {
                answer = answer.attr(key, value.to_string());
            }
        }
        let wants_lid = query.child("query").is_some_and(|query| query.child("lid").is_some());
        let asked = query.child("list").into_iter().flat_map(|list| list.children());
        let users = asked.filter_map(|user| user.attr("jid").and_then(|jid| jid.to_jid()));
        let list = users.fold(Node::new("list"), |list, jid| {
            let username = device_of(&jid).map(|(username, _)| username);
            let devices = username.map_or_else(|| vec![0], |username| self.listed_devices_of(username));
            let devices = devices.into_iter().fold(Node::new("device-list"), |list, number| {
                let device = Node::new("device").attr("id", number.to_string());
                list.child(if number == 0 { device } else { device.attr("key-index", number.to_string()) })
            });
            let mut user =
                Node::new("user").attr_jid("jid", jid.to_non_ad()).child(Node::new("devices").child(devices));
            if let Some(username) = username.filter(|_| wants_lid) {
                let lid = Jid::new(lid_user(username), Server::Lid);
                user = user.child(Node::new("lid").attr_jid("val", lid));
            }
            list.child(user)
        });
        answer.child(Node::new("result")).child(list)
    }
}

/// The device that an address is of, a phone number's or a LID's.
pub(super) fn device_of(jid: &Jid) -> Option<DeviceId> {
    let user = match jid.server {
        Server::Pn => jid.user.parse().ok()?,
        Server::Lid => username_of_lid(&jid.user)?,
        _ => return None,
    };
    Some((user, u32::from(jid.device)))
}

fn username_of_lid(user: &str) -> Option<u64> {
    let username = user.strip_prefix('9')?.parse().ok()?;
    (lid_user(username) == user).then_some(username)
}

/// The address of a device, in the address space of `like`.
pub(super) fn address_like(device: DeviceId, like: &Jid) -> Jid {
    if like.server == Server::Lid { stanza::lid(device) } else { pn(device) }
}

/// The phone-number address of a device.
pub(super) fn pn((username, number): DeviceId) -> Jid {
    Jid::device(username.to_string(), u16::try_from(number).unwrap_or(u16::MAX), Server::Pn)
}

impl Fleet {
    /// The place of a device in the fleet.
    fn index_of(self, (username, number): DeviceId) -> Option<u32> {
        let index = u32::try_from(username.checked_sub(FIRST_USERNAME)?).ok()?;
        (number == DEVICE && index < self.len()).then_some(index)
    }

    /// A number of 14 bits, never 0.
    pub fn registration_id(&self, index: u32) -> u32 {
        let [a, b, ..] = self.bytes("registration id", index);
        u32::from(u16::from_be_bytes([a, b]) & 0x3fff).max(1)
    }
}

fn with_bundle(entry: Node, bundle: &GivenBundle) -> Node {
    let entry = entry
        .child(Node::new("registration").bytes(bundle.registration_id.to_be_bytes()))
        .child(Node::new("type").bytes([5]))
        .child(Node::new("identity").bytes(*bundle.identity.as_bytes()))
        .child(
            key_node("skey", bundle.signed_pre_key_id, bundle.signed_pre_key.as_bytes())
                .child(Node::new("signature").bytes(bundle.signature)),
        );
    match &bundle.pre_key {
        Some((id, value)) => entry.child(key_node("key", *id, value.as_bytes())),
        None => entry,
    }
}

fn key_node(tag: &str, id: u32, value: &[u8; 32]) -> Node {
    let [_, id @ ..] = id.to_be_bytes();
    Node::new(tag).child(Node::new("id").bytes(id)).child(Node::new("value").bytes(*value))
}

/// Id and value of a key.
fn key(node: NodeRef<'_>) -> Option<(u32, [u8; 32])> {
    Some((number(node.child("id")?)?, node.child("value")?.bytes()?.try_into().ok()?))
}

/// A big-endian number of up to four bytes.
fn number(node: NodeRef<'_>) -> Option<u32> {
    let bytes = node.bytes().filter(|bytes| bytes.len() <= 4)?;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

/// Id and key of a retry receipt's `<keys>`, with its registration: a bundle.
pub(super) fn bundle_of_receipt(receipt: &Node) -> Option<GivenBundle> {
    let mut plain = Vec::new();
    runner_proto::node::encode(receipt, &mut plain);
    let mut scratch = runner_proto::node::Scratch::new();
    let receipt =
        runner_proto::node::decode(&plain, &mut scratch, &runner_proto::node::Limits::default()).ok()?;
    let keys = receipt.child("keys")?;
    let public = runner_signal::PublicKey::new;
    let skey = keys.child("skey")?;
    let (signed_pre_key_id, signed_pre_key) = key(skey)?;
    Some(GivenBundle {
        registration_id: number(receipt.child("registration")?)?,
        identity: public(keys.child("identity")?.bytes()?.try_into().ok()?),
        signed_pre_key_id,
        signed_pre_key: public(signed_pre_key),
        signature: skey.child("signature")?.bytes()?.try_into().ok()?,
        pre_key: keys.child("key").and_then(key).map(|(id, value)| (id, public(value))),
    })
}

/// The bundle of a contact, whose keys are the simulator's own.
pub(super) fn contact_bundle(
    registration_id: u32,
    identity: [u8; 32],
    signed: (u32, [u8; 32], [u8; 64]),
) -> KeyBundle {
    let (id, value, signature) = signed;
    let signed = SignedKey { id, value, signature };
    KeyBundle { registration_id, identity, signed, is_uploaded: false, one_time: VecDeque::new() }
}

/// The children of a tree.
pub(super) fn children(node: &Node) -> &[Node] {
    match &node.content {
        NodeContent::Nodes(children) => children,
        _ => &[],
    }
}

/// The first child of a tree with that tag.
pub(super) fn child<'a>(node: &'a Node, tag: &str) -> Option<&'a Node> {
    children(node).iter().find(|child| child.tag == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_addresses_of_a_device_are_that_device() {
        let jid = |text: &str| text.parse::<Jid>().expect("a jid");
        assert_eq!(device_of(&jid("15550000003:1@s.whatsapp.net")), Some((15_550_000_003, 1)));
        assert_eq!(device_of(&jid("915550000003:1@lid")), Some((15_550_000_003, 1)));
        assert_eq!(device_of(&jid("15550000003@g.us")), None);
        assert_eq!(device_of(&jid("815550000003@lid")), None);
        assert_eq!(address_like((15_550_000_003, 1), &jid("9@lid")), jid("915550000003:1@lid"));
    }
}
