//! A contact's device was linked anew, as the server tells it: nothing is sent in the sessions that we have with it.
//!
//! The notification waits for its turn among the messages, since those before it may be of the session that it ends,
//! and changes of one session are made one after the other. What is under way is still read: sessions are archived,
//! not removed. Only the device that the server names is meant, which is the account's primary one: the others of the
//! account are unlinked by it, write no more, and leave the device lists.

use runner_proto::node::NodeRef;
use runner_signal::session;

use super::address::{self, Sender};
use crate::record::{Found, RecordBytes, RecordKey, RecordKind, Records};

/// Both names of the contact's records, as far as they are known.
fn names(sender: &Sender, records: &Records) -> [Option<String>; 2] {
    let other = sender.other_by(records.peek(&sender.mapping()));
    let (name, still) = address::names(&sender.device, other.as_ref());
    [Some(name), still]
}

/// The records that it needs and that are not here, as `open::wanted`.
pub(super) fn wanted(notification: NodeRef<'_>, records: &mut Records, user: u64) -> Vec<RecordKey> {
    let Some(sender) = Sender::of(notification) else { return Vec::new() };
    let mut wanted = Vec::new();
    let mut want = |records: &mut Records, key: RecordKey| {
        if records.find(&key, user) == Found::Missing {
            wanted.push(key);
        }
    };
    want(records, sender.mapping());
    for name in names(&sender, records).into_iter().flatten() {
        want(records, RecordKey::new(RecordKind::Session, name));
    }
    wanted
}

/// The sessions that it ends, archived.
pub(super) fn archive(
    notification: NodeRef<'_>,
    records: &mut Records,
    user: u64,
) -> Vec<(RecordKey, RecordBytes)> {
    let Some(sender) = Sender::of(notification) else { return Vec::new() };
    let mut changes = Vec::new();
    for name in names(&sender, records).into_iter().flatten() {
        let key = RecordKey::new(RecordKind::Session, name);
        let Some(record) = records.peek(&key) else { continue };
        // A damaged record sends nothing either.
        let has_current = session::summary(record).is_ok_and(|summary| summary.current.is_some());
        if let (true, Ok(archived)) = (has_current, session::archive(record)) {
            let archived = RecordBytes::from(archived.into_bytes());
            records.set(key.clone(), Some(archived.clone()), user);
            changes.push((key, archived));
        }
    }
    changes
}
