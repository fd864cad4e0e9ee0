//! Who has our own sender key of a group.
//!
//! Whoever was ever sent a key may have it: that is written down before it leaves, and once one of them is in the group
//! no more, the next message has a new key. Whoever was sent it in a message that the server has taken has it, and is
//! not sent it again.

use std::collections::{BTreeMap, HashSet};

use runner_proto::jid::Jid;

use super::{fields, plan::Target};
use crate::record::{RecordBytes, RecordKey, RecordKind};

const VERSION: u8 = 1;

/// The id of no key: ours have 31 bits.
pub(super) const NO_KEY: u32 = u32::MAX;

/// The devices that may have a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Holders {
    /// Which key; with another one this says nothing.
    pub(super) key_id: u32,
    /// By the name of their records; whether it is certain.
    devices: BTreeMap<String, bool>,
}

/// The name of what is kept of a group's key.
pub(super) fn key(group: &Jid) -> RecordKey {
    RecordKey::new(RecordKind::Holders, group.to_string())
}

impl Holders {
    /// Those of a new key: nobody.
    pub(super) const fn nobody(key_id: u32) -> Self {
        Self { key_id, devices: BTreeMap::new() }
    }

    /// Reads a record; one that is damaged is as good as none.
    pub(super) fn read(record: &[u8]) -> Option<Self> {
        let rest = &mut &*record;
        if fields::byte(rest)? != VERSION {
            return None;
        }
        let key_id = u32::from_be_bytes(fields::bytes(rest)?);
        let mut devices = BTreeMap::new();
        while !rest.is_empty() {
            let is_certain = fields::byte(rest)? != 0;
            devices.insert(fields::text(rest)?.to_owned(), is_certain);
        }
        Some(Self { key_id, devices })
    }

    /// Version (1), id of the key (4), then of each device whether it is certain (1), and its name.
    pub(super) fn to_record(&self) -> RecordBytes {
        let mut record = vec![VERSION];
        record.extend(self.key_id.to_be_bytes());
        for (name, is_certain) in &self.devices {
            record.push(u8::from(*is_certain));
            fields::put_text(&mut record, name);
        }
        record.into()
    }

    /// A device is about to be sent the key, or has asked for what it could not read with it.
    pub(super) fn tell(&mut self, name: &str) {
        self.devices.insert(name.to_owned(), false);
    }

    /// The server has the message that brought a device the key; false when that changes nothing.
    pub(super) fn confirm(&mut self, name: &str) -> bool {
        self.devices.get_mut(name).is_some_and(|is_certain| !std::mem::replace(is_certain, true))
    }

    /// Whether a device certainly has it.
    pub(super) fn has(&self, target: &Target) -> bool {
        let names = [Some(&target.name), target.still.as_ref()];
        names.into_iter().flatten().any(|name| self.devices.get(name) == Some(&true))
    }

    /// Whether one of them is not among these any more.
    pub(super) fn has_left(&self, targets: &[Target]) -> bool {
        let there: HashSet<&str> = targets
            .iter()
            .flat_map(|target| [Some(&target.name), target.still.as_ref()])
            .flatten()
            .map(String::as_str)
            .collect();
        !self.devices.keys().all(|name| there.contains(name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, still: Option<&str>) -> Target {
        Target {
            device: "1@lid".parse().expect("a jid"),
            is_own: false,
            name: name.to_owned(),
            still: still.map(ToOwned::to_owned),
            other: None,
            is_to_begin: false,
        }
    }

    #[test]
    fn a_key_is_had_for_certain_once_it_is_confirmed_and_not_when_it_is_told_again() {
        let mut holders = Holders::nobody(7);
        assert!(!holders.confirm("777_1.0"), "it was not told");
        holders.tell("777_1.0");
        assert!(!holders.has(&target("777_1.0", None)));
        assert!(holders.confirm("777_1.0"));
        assert!(!holders.confirm("777_1.0"));
        assert!(holders.has(&target("777_1.0", None)));
        holders.tell("777_1.0");
        assert!(!holders.has(&target("777_1.0", None)));
    }

    #[test]
    fn whoever_may_have_it_and_is_not_there_has_left_under_whichever_name() {
        let mut holders = Holders::nobody(7);
        holders.tell("15550002222.0");
        assert!(holders.has_left(&[]));
        assert!(holders.has_left(&[target("777_1.0", None)]));
        assert!(!holders.has_left(&[target("777_1.0", Some("15550002222.0"))]), "its LID became known");
        holders.confirm("15550002222.0");
        assert!(holders.has(&target("777_1.0", Some("15550002222.0"))));
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_a_damaged_one_is_none() {
        let mut holders = Holders::nobody(u32::MAX);
        holders.tell("15550002222.0");
        holders.tell("777_1.3");
        holders.confirm("777_1.3");
        let record = holders.to_record();
        assert_eq!(Holders::read(record.expose()), Some(holders));
        let whole = [5, 5 + 15];
        for end in (0..record.expose().len()).filter(|end| !whole.contains(end)) {
            assert_eq!(Holders::read(&record.expose()[..end]), None, "cut at {end}");
        }
    }
}
