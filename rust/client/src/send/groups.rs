//! Who is in a group: what the server is asked, what it says, and what is kept of it. docs/protocol.md, "Groups".

use runner_proto::{
    jid::{Jid, Server},
    node::{NodeRef, Writer},
};

use super::{SendFailure, devices::Told, fields};
use crate::{
    receive::is_lid,
    record::{RecordBytes, RecordKey, RecordKind},
};

/// Most members of a group that is written to: twice what WhatsApp lets into one. Larger are only the announcements of
/// communities; a first message to one of those is work for minutes, and megabytes on the wire.
pub const MAX_MEMBERS: usize = 2048;

const VERSION: u8 = 1;

/// Its members are called by their LIDs.
const BY_LID: u8 = 1;
/// Only its admins write to it.
const ADMINS_ONLY: u8 = 2;

/// A group as the server has described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) told: Told,
    /// Its members are called by their LIDs.
    pub(super) is_lid: bool,
    /// Only its admins write to it.
    pub(super) is_admins_only: bool,
    pub(super) members: Vec<Member>,
}

/// Somebody in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// As the group calls them, without device.
    pub(super) jid: Jid,
    /// Their other address, when the server says it.
    pub(super) other: Option<Jid>,
    pub(super) is_admin: bool,
}

/// The name of what is kept of a group.
pub(super) fn key(group: &Jid) -> RecordKey {
    RecordKey::new(RecordKind::Group, group.to_string())
}

/// Whether it is the address of a group.
pub(super) fn is_group(jid: &Jid) -> bool {
    jid.server == Server::Group && !jid.user.is_empty()
}

/// `<query>`: one child of an iq to the group.
pub(super) fn write_query(writer: &mut Writer<'_>) {
    writer.node("query", 1, false);
    writer.attr("request", "interactive");
}

impl Group {
    /// The answer to [`write_query`].
    ///
    /// # Errors
    /// The group is larger than what is written to, or the server has described none.
    pub(super) fn of_answer(iq: NodeRef<'_>, told: Told) -> Result<Self, SendFailure> {
        let group = iq.child("group").ok_or(SendFailure::NoAnswer)?;
        let named = group.children().filter(|child| child.tag() == "participant");
        let members: Vec<_> = named.filter_map(Member::of).take(MAX_MEMBERS + 1).collect();
        if members.len() > MAX_MEMBERS {
            return Err(SendFailure::GroupTooLarge);
        }
        let is_lid = match group.attr("addressing_mode") {
            Some(mode) => mode == *"lid",
            None => members.first().is_some_and(|member| is_lid(&member.jid)),
        };
        let is_admins_only = group.child("announcement").is_some();
        Ok(Self { told, is_lid, is_admins_only, members })
    }

    /// Reads a record; one that is damaged is as good as none.
    pub(super) fn read(record: &[u8]) -> Option<Self> {
        let rest = &mut &*record;
        if fields::byte(rest)? != VERSION {
            return None;
        }
        let told = Told::read(rest)?;
        let flags = fields::byte(rest)?;
        let mut members = Vec::new();
        while !rest.is_empty() {
            let is_admin = fields::byte(rest)? != 0;
            let jid = fields::text(rest)?.parse().ok()?;
            let other = match fields::text(rest)? {
                "" => None,
                other => Some(other.parse().ok()?),
            };
            members.push(Member { jid, other, is_admin });
        }
        let (is_lid, is_admins_only) = (flags & BY_LID != 0, flags & ADMINS_ONLY != 0);
        Some(Self { told, is_lid, is_admins_only, members })
    }

    /// Version (1), when it was told (12), flags (1), then of each member whether it is an admin (1), both addresses.
    pub(super) fn to_record(&self) -> RecordBytes {
        let mut record = vec![VERSION];
        self.told.write(&mut record);
        let by_lid = if self.is_lid { BY_LID } else { 0 };
        record.push(by_lid | if self.is_admins_only { ADMINS_ONLY } else { 0 });
        for member in &self.members {
            record.push(u8::from(member.is_admin));
            fields::put_text(&mut record, &member.jid.to_string());
            fields::put_text(
                &mut record,
                &member.other.as_ref().map(ToString::to_string).unwrap_or_default(),
            );
        }
        record.into()
    }

    /// The member whose device this is.
    pub(super) fn member_of(&self, device: &Jid) -> Option<&Member> {
        self.members.iter().find(|member| member.is(device))
    }
}

/// A phone number or a LID. What is no number would be kept as something that cannot be read.
fn is_person(jid: &Jid) -> bool {
    let is_number = (1..=20).contains(&jid.user.len()) && jid.user.bytes().all(|byte| byte.is_ascii_digit());
    is_number && matches!(jid.server, Server::Pn | Server::Lid)
}

impl Member {
    fn of(participant: NodeRef<'_>) -> Option<Self> {
        let jid = |key| participant.attr(key).and_then(|jid| jid.to_jid()).filter(is_person);
        let named = jid("jid")?;
        let other = jid(if is_lid(&named) { "phone_number" } else { "lid" });
        Some(Self {
            other: other.filter(|other| is_lid(other) != is_lid(&named)).map(|other| other.to_non_ad()),
            jid: named.to_non_ad(),
            is_admin: participant.attr("type").is_some_and(|kind| kind == *"admin" || kind == *"superadmin"),
        })
    }

    /// Whether it is them, by either address.
    pub(super) fn is(&self, jid: &Jid) -> bool {
        self.jid.is_same_user(jid) || self.other.as_ref().is_some_and(|other| other.is_same_user(jid))
    }

    /// The other address of one of their devices.
    pub(super) fn other_of(&self, device: &Jid) -> Option<Jid> {
        self.other.as_ref().map(|other| Jid { device: device.device, ..other.clone() })
    }
}

#[cfg(test)]
mod tests {
    use runner_proto::node::{self, Limits, Node, Scratch};

    use super::*;

    fn jid(text: &str) -> Jid {
        text.parse().expect("a jid")
    }

    fn participant(text: &str) -> Node {
        Node::new("participant").attr_jid("jid", jid(text))
    }

    fn answer(group: Node) -> Result<Group, SendFailure> {
        let (mut bytes, mut scratch) = (Vec::new(), Scratch::new());
        node::encode(&Node::new("iq").child(group), &mut bytes);
        let limits = Limits::default();
        let told = Told { unix_s: 10_000, epoch: 7 };
        Group::of_answer(node::decode(&bytes, &mut scratch, &limits).expect("a node"), told)
    }

    #[test]
    fn what_the_server_says_of_a_group_is_read_and_kept() {
        let group = Node::new("group")
            .attr("addressing_mode", "lid")
            .child(
                participant("777@lid")
                    .attr("type", "superadmin")
                    .attr_jid("phone_number", jid("15550002222@s.whatsapp.net")),
            )
            .child(participant("888@lid").attr_jid("phone_number", jid("999@lid")))
            .child(participant("1@newsletter"))
            .child(Node::new("participant").attr_jid("jid", Jid::new("9".repeat(300), Server::Lid)))
            .child(Node::new("participant").attr_jid("jid", Jid::new("a@b", Server::Lid)))
            .child(Node::new("announcement"));
        let group = answer(group).expect("a group");
        assert!(group.is_lid && group.is_admins_only);
        let [first, second] = &group.members[..] else { panic!("{group:?}") };
        assert!(first.is_admin && !second.is_admin);
        assert!(first.is(&jid("15550002222:3@s.whatsapp.net")) && first.is(&jid("777:3@lid")));
        assert_eq!(first.other_of(&jid("777:3@lid")), Some(jid("15550002222:3@s.whatsapp.net")));
        assert_eq!(second.other, None, "one of the same kind is no other address");
        assert_eq!(Group::read(group.to_record().expose()), Some(group));
    }

    #[test]
    fn a_group_that_says_no_mode_is_as_its_members_are_called() {
        assert!(!answer(Node::new("group").child(participant("1@s.whatsapp.net"))).expect("a group").is_lid);
        assert!(answer(Node::new("group").child(participant("1@lid"))).expect("a group").is_lid);
    }

    #[test]
    fn a_group_is_bounded_and_no_group_is_no_answer() {
        let of = |count: usize| {
            let members = (0..count).map(|n| participant(&format!("{}@s.whatsapp.net", n + 1)));
            answer(Node::new("group").children(members))
        };
        assert_eq!(of(MAX_MEMBERS).expect("a group").members.len(), MAX_MEMBERS);
        assert_eq!(of(MAX_MEMBERS + 1), Err(SendFailure::GroupTooLarge));
        assert_eq!(answer(Node::new("other")), Err(SendFailure::NoAnswer));
    }

    #[test]
    fn a_damaged_record_is_none() {
        let group = answer(Node::new("group").child(participant("1@lid"))).expect("a group");
        let record = group.to_record();
        for end in (0..record.expose().len()).filter(|end| *end != 14) {
            assert_eq!(Group::read(&record.expose()[..end]), None, "cut at {end}");
        }
        assert_eq!(Group::read(&[2; 30]), None);
    }
}
