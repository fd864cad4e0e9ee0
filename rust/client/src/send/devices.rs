//! Who has which devices, and the keys by which they are written to first: what the server is asked, and what it says.
//! docs/protocol.md, "Sending".

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use runner_proto::{
    jid::{Jid, Server},
    node::{NodeRef, Writer},
};
use runner_signal::{Bundle, PublicKey};
use sha2::{Digest as _, Sha256};

use super::fields;
use crate::{
    receive::{address, is_lid},
    record::{RecordBytes, RecordKey, RecordKind},
};

/// How long a list is good for when nothing is heard of a change; whatsapp-rust's figure.
const FRESH_S: u64 = 60 * 60;

/// Users whose devices are asked for at once.
pub(super) const MAX_USERS: usize = 256;

/// Devices of an account that are written to; an account has five, a hosted one a few more.
const MAX_DEVICES: usize = 32;

/// Set in a stored device number when a business has the device hosted.
const HOSTED: u16 = 1 << 15;

/// The number of a device that is always hosted.
const ALWAYS_HOSTED: u16 = 99;

const VERSION: u8 = 2;

/// When the server said something, and to whom.
///
/// A change is told once, to the connection that there is. So for a group, from which somebody may have been taken who
/// is not to read on, only what this connection was told counts: a change that the last one heard of may have been lost
/// with it. For a person what any connection was told counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) unix_s: u64,
    /// A number that each connection draws, and anew when the store has failed.
    pub(super) epoch: u32,
}

impl Told {
    /// Whether it still holds at `now`. A clock that was set back makes it old, too.
    pub(super) fn is_fresh(self, now: Self) -> bool {
        now.unix_s.checked_sub(self.unix_s).is_some_and(|age| age < FRESH_S)
    }

    /// The same for a group.
    pub(super) fn is_fresh_here(self, now: Self) -> bool {
        self.epoch == now.epoch && self.is_fresh(now)
    }

    /// Time (8), epoch (4); big-endian.
    pub(super) fn write(self, record: &mut Vec<u8>) {
        record.extend(self.unix_s.to_be_bytes());
        record.extend(self.epoch.to_be_bytes());
    }

    pub(super) fn read(rest: &mut &[u8]) -> Option<Self> {
        let unix_s = u64::from_be_bytes(fields::bytes(rest)?);
        Some(Self { unix_s, epoch: u32::from_be_bytes(fields::bytes(rest)?) })
    }
}

/// The devices of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceList {
    /// When the server said so.
    pub(super) told: Told,
    /// Their numbers, ascending, with [`HOSTED`].
    numbers: Vec<u16>,
}

/// The name of the list of a user.
pub(super) fn key(user: &Jid) -> RecordKey {
    RecordKey::new(RecordKind::Devices, address(&user.to_non_ad()))
}

impl DeviceList {
    /// Reads a record; one that is damaged is as good as none.
    pub(super) fn read(record: &[u8]) -> Option<Self> {
        let (&version, mut rest) = record.split_first()?;
        if version != VERSION {
            return None;
        }
        let told = Told::read(&mut rest)?;
        let (numbers, rest) = rest.as_chunks();
        let numbers = numbers.iter().map(|number| u16::from_be_bytes(*number)).collect();
        rest.is_empty().then_some(Self { told, numbers })
    }

    /// Version (1), when it was told (12), the numbers (2 each); big-endian.
    pub(super) fn to_record(&self) -> RecordBytes {
        let mut record = vec![VERSION];
        self.told.write(&mut record);
        record.extend(self.numbers.iter().flat_map(|number| number.to_be_bytes()));
        record.into()
    }

    /// That of an account that has none.
    pub(super) const fn empty(told: Told) -> Self {
        Self { told, numbers: Vec::new() }
    }

    /// Their addresses.
    pub(super) fn of(&self, user: &Jid) -> impl Iterator<Item = Jid> {
        self.numbers.iter().map(|number| {
            let hosted = if is_lid(user) { Server::HostedLid } else { Server::Hosted };
            let server = if number & HOSTED == 0 { user.server.clone() } else { hosted };
            Jid::device(user.user.clone(), number & !HOSTED, server)
        })
    }
}

/// `<usync>` for the devices and the LIDs of `users`: one child of an iq.
pub(super) fn write_query(writer: &mut Writer<'_>, users: &[Jid], sid: &str) {
    writer.node("usync", 5, true);
    writer.attr("sid", sid);
    writer.attr("mode", "query");
    writer.attr("last", "true");
    writer.attr("index", "0");
    writer.attr("context", "message");
    writer.children(2);
    writer.node("query", 0, true);
    writer.children(2);
    writer.node("devices", 1, false);
    writer.attr("version", "2");
    writer.node("lid", 0, false);
    writer.node("list", 0, true);
    writer.children(users.len());
    for user in users {
        writer.node("user", 1, false);
        writer.attr_jid("jid", user);
    }
}

/// What the server says of one user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) user: Jid,
    pub(super) list: DeviceList,
    pub(super) lid: Option<Jid>,
}

/// The answer to [`write_query`]: whoever is not in it has no device.
pub(super) fn read_answer(iq: NodeRef<'_>, told: Told) -> Vec<Found> {
    let list = iq.child("usync").and_then(|usync| usync.child("list"));
    let users = list.into_iter().flat_map(|list| list.children());
    let found = users.filter_map(|user| {
        let jid = user.attr("jid").and_then(|jid| jid.to_jid())?;
        let devices = user.child("devices").and_then(|devices| devices.child("device-list"))?;
        let mut numbers: Vec<_> = devices.children().filter_map(number).take(MAX_DEVICES).collect();
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.is_empty() {
            return None;
        }
        let lid = user.child("lid").and_then(|lid| lid.attr("val")).and_then(|lid| lid.to_jid());
        let lid = lid.filter(|lid| lid.server == Server::Lid && jid.server == Server::Pn);
        Some(Found { user: jid.to_non_ad(), list: DeviceList { told, numbers }, lid })
    });
    found.collect()
}

/// The number of a `<device>`. One that its account has not signed for has no key index, and is not written to.
fn number(device: NodeRef<'_>) -> Option<u16> {
    let number = device.attr("id")?.parse_u64()?;
    let number = u16::try_from(number).ok().filter(|number| number & HOSTED == 0)?;
    let is_hosted = number == ALWAYS_HOSTED || device.attr("is_hosted").is_some_and(|is| is == *"true");
    let is_signed_for = number == 0 || device.attr("key-index").is_some();
    is_signed_for.then_some(if is_hosted { number | HOSTED } else { number })
}

/// `<key>` for the bundles of these devices: one child of an iq.
pub(super) fn write_bundle_request(writer: &mut Writer<'_>, devices: &[Jid]) {
    writer.node("key", 0, true);
    writer.children(devices.len());
    for device in devices {
        writer.node("user", 1, false);
        writer.attr_jid("jid", device);
    }
}

/// The answer to [`write_bundle_request`].
pub(super) fn read_bundles(iq: NodeRef<'_>) -> Vec<(Jid, Bundle)> {
    let list = iq.child("list");
    let users = list.into_iter().flat_map(|list| list.children());
    users.filter_map(|user| Some((user.attr("jid")?.to_jid()?, bundle(user, user)?))).collect()
}

/// The keys that come with a retry receipt.
pub(super) fn bundle_of_receipt(receipt: NodeRef<'_>) -> Option<Bundle> {
    bundle(receipt, receipt.child("keys")?)
}

/// The registration id in a stanza.
pub(super) fn registration_id(node: NodeRef<'_>) -> Option<u32> {
    Some(u32::from_be_bytes(node.child("registration")?.bytes()?.try_into().ok()?))
}

fn bundle(outer: NodeRef<'_>, keys: NodeRef<'_>) -> Option<Bundle> {
    let signed = keys.child("skey")?;
    let (signed_pre_key_id, signed_pre_key) = pre_key(signed)?;
    Some(Bundle {
        registration_id: registration_id(outer)?,
        identity: public(keys.child("identity")?)?,
        signed_pre_key_id,
        signed_pre_key,
        signature: signed.child("signature")?.bytes()?.try_into().ok()?,
        pre_key: keys.child("key").and_then(pre_key),
    })
}

/// Id in up to three bytes, and key.
fn pre_key(node: NodeRef<'_>) -> Option<(u32, PublicKey)> {
    let id = node.child("id")?.bytes().filter(|bytes| bytes.len() <= 3)?;
    let id = id.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
    Some((id, public(node.child("value")?)?))
}

fn public(node: NodeRef<'_>) -> Option<PublicKey> {
    node.bytes()?.try_into().ok().map(PublicKey::new)
}

/// `2:` and eight characters that name a set of devices. docs/protocol.md, "Sending".
pub(super) fn phash<'a>(devices: impl Iterator<Item = &'a Jid>) -> String {
    let mut named: Vec<_> = devices
        .map(|jid| {
            // As the web client writes it: with agent and device also where they are 0.
            let server = match jid.server {
                Server::Hosted => "s.whatsapp.net",
                Server::HostedLid => "lid",
                _ => jid.server_name(),
            };
            format!("{}.0:{}@{server}", jid.user, jid.device)
        })
        .collect();
    named.sort_unstable();
    let digest = Sha256::digest(named.concat());
    let (first, _) = digest.split_at(6);
    format!("2:{}", STANDARD_NO_PAD.encode(first))
}

#[cfg(test)]
mod tests {
    use runner_proto::node::{self, Limits, Node, Scratch};

    use super::*;

    fn jid(text: &str) -> Jid {
        text.parse().expect("a jid")
    }

    const fn told(unix_s: u64, epoch: u32) -> Told {
        Told { unix_s, epoch }
    }

    fn device(id: &str, key_index: Option<&str>) -> Node {
        let device = Node::new("device").attr("id", id);
        key_index.into_iter().fold(device, |device, index| device.attr("key-index", index))
    }

    fn answer(iq: &Node) -> Vec<Found> {
        let (mut bytes, mut scratch) = (Vec::new(), Scratch::new());
        node::encode(iq, &mut bytes);
        read_answer(node::decode(&bytes, &mut scratch, &Limits::default()).expect("a node"), told(100, 7))
    }

    fn user(text: &str, devices: impl IntoIterator<Item = Node>) -> Node {
        let list = Node::new("device-list").children(devices);
        Node::new("user").attr_jid("jid", jid(text)).child(Node::new("devices").child(list))
    }

    fn iq(users: impl IntoIterator<Item = Node>) -> Node {
        Node::new("iq").child(Node::new("usync").child(Node::new("list").children(users)))
    }

    #[test]
    fn devices_that_nobody_signed_for_are_left_out_and_hosted_ones_are_named_so() {
        let devices = [
            device("5", Some("2")),
            device("0", None),
            device("3", None),
            device("99", Some("1")),
            device("70000", Some("1")),
            device("5", Some("2")),
        ];
        let lid = Node::new("lid").attr_jid("val", jid("777@lid"));
        let found = answer(&iq([user("15550002222@s.whatsapp.net", devices).child(lid)]));
        let [Found { user, list, lid }] = &found[..] else { panic!("{found:?}") };
        assert_eq!(lid.as_ref().map(ToString::to_string).as_deref(), Some("777@lid"));
        let named: Vec<_> = list.of(user).map(|jid| jid.to_string()).collect();
        assert_eq!(
            named,
            ["15550002222@s.whatsapp.net", "15550002222:5@s.whatsapp.net", "15550002222:99@hosted"]
        );
        assert_eq!(DeviceList::read(list.to_record().expose()).as_ref(), Some(list));
    }

    #[test]
    fn whoever_has_no_list_is_not_found() {
        let nobody = Node::new("user").attr_jid("jid", jid("1@s.whatsapp.net"));
        let error = Node::new("error").attr("code", "404");
        assert_eq!(answer(&iq([nobody.child(Node::new("devices").child(error))])), []);
        assert_eq!(answer(&Node::new("iq")), []);
    }

    #[test]
    fn what_was_told_is_good_for_an_hour_of_a_clock_that_goes_forward() {
        let then = told(10_000, 7);
        for (unix_s, is_fresh) in [(10_000, true), (13_599, true), (13_600, false), (9_999, false)] {
            assert_eq!(then.is_fresh(told(unix_s, 8)), is_fresh, "{unix_s}");
            assert_eq!(then.is_fresh_here(told(unix_s, 7)), is_fresh, "{unix_s}");
            assert!(!then.is_fresh_here(told(unix_s, 8)), "another connection was told");
        }
    }

    #[test]
    fn a_damaged_list_is_none() {
        let list = DeviceList { told: told(1, 2), numbers: vec![0, 7] }.to_record();
        let list = list.expose();
        for end in (0..list.len()).filter(|end| ![13, 15].contains(end)) {
            assert_eq!(DeviceList::read(&list[..end]), None, "cut at {end}");
        }
        // An earlier version's is asked for anew.
        assert_eq!(DeviceList::read(b"\x01\0\0\0\0\0\0\0\0\0\0"), None);
    }

    /// The sample of docs/protocol.md was made by whatsmeow of devices that are not known; its form is.
    #[test]
    fn the_hash_of_devices_does_not_depend_on_their_order() {
        let (one, two) = (jid("15550001111:3@s.whatsapp.net"), jid("15550002222@s.whatsapp.net"));
        let hash = phash([&one, &two].into_iter());
        assert_eq!(hash, phash([&two, &one].into_iter()));
        assert_eq!((hash.len(), &hash[..2]), ("2:4TfX0emU".len(), "2:"));
        assert_ne!(hash, phash([&one].into_iter()));
    }
}
