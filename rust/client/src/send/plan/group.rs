//! What a message to a group needs next. docs/protocol.md, "Groups".
//!
//! It is encrypted once, with our sender key of the group, which each device must be told first, in a message of its
//! own. So beside the devices of all members the plan asks who has that key (`holders`): whoever has it not is told it,
//! and when somebody has it who is there no more, everybody is told a new one.

use std::collections::HashSet;

use runner_proto::jid::Jid;
use runner_signal::{
    group::own_key_id,
    identity::{self, Seen},
};

use super::{Look, Own, Step, Target};
use crate::{
    receive::{address, mappings, sender_key},
    record::RecordKey,
    send::{
        Again, Job, SendFailure,
        devices::{self, DeviceList, MAX_USERS, Told, phash},
        groups::{self, Group, Member},
        holders::{self, Holders},
        sent::Kept,
    },
};

/// Devices for which our sender key is encrypted at once. A session is begun in about a quarter of a millisecond, and all
/// other sessions wait meanwhile.
const SLICE: usize = 24;

/// Devices whose keys are asked for at once.
const MAX_BUNDLES: usize = 256;

/// Most devices of a group: our sender key for all of them fits into one frame.
const MAX_TARGETS: usize = 16_384;

/// Our sender key of a group, for some of its devices.
#[derive(Debug)]
pub(in crate::send) struct Telling {
    /// Who is told it.
    pub(in crate::send) targets: Vec<Target>,
    /// The name of its record.
    pub(in crate::send) key: RecordKey,
    /// There is none, or it is not to be used any more: a new one is made, which nobody has.
    pub(in crate::send) is_new: bool,
    /// Devices that have a copy already, and are there no more.
    pub(in crate::send) gone: Vec<Jid>,
}

/// A message to a group, and the last of those who are told the key first.
#[derive(Debug)]
pub(in crate::send) struct InGroup {
    pub(in crate::send) telling: Telling,
    pub(in crate::send) kept: Option<Kept>,
    /// Who is in it.
    pub(in crate::send) members: Vec<Jid>,
    /// Its members are called by their LIDs.
    pub(in crate::send) is_lid: bool,
    /// Of all devices of all members, ours included.
    pub(in crate::send) phash: String,
}

pub(super) fn new(job: &Job, look: &mut Look<'_>, own: &Own, now: Told) -> Step {
    let chat = &job.chat;
    look.ring(job);
    let Some(group) = group_of(chat, look, now) else { return Step::AskGroup(chat.clone()) };
    let Some(us) = group.members.iter().find(|member| own.is_member(member)) else {
        return Step::Refuse(SendFailure::NotAMember);
    };
    if group.is_admins_only && !us.is_admin {
        return Step::Refuse(SendFailure::AdminsOnly);
    }
    let me = Jid { device: own.pn.device, ..us.jid.clone() };
    let lists: Vec<_> = group.members.iter().map(|member| list_of(member, look, now)).collect();
    let key = sender_key(chat, &address(&me));
    let key_id = look.at(&key).as_deref().and_then(own_key_id);
    let holders = look.at(&holders::key(chat)).as_deref().and_then(Holders::read);
    if !look.missing.is_empty() {
        return Step::Nobody;
    }
    let unknown = group.members.iter().zip(&lists).filter(|(_, list)| list.is_none());
    let unknown: Vec<_> = unknown.map(|(member, _)| member.jid.clone()).take(MAX_USERS).collect();
    if !unknown.is_empty() {
        return Step::AskDevices(unknown);
    }
    let (mut targets, mut named) = (Vec::new(), HashSet::new());
    for (member, list) in group.members.iter().zip(lists.iter().flatten()) {
        for device in list.of(&member.jid).filter(|device| *device != me) {
            // Our own other devices get what all get.
            let target = Target::new(device.clone(), false, member.other_of(&device).as_ref());
            // Listed by both of its addresses, a device would get two contents under one message key.
            let names = [Some(target.name.clone()), target.still.clone()];
            if names.iter().flatten().all(|name| !named.contains(name)) {
                targets.push(target);
            }
            named.extend(names.into_iter().flatten());
        }
    }
    if targets.len() > MAX_TARGETS {
        return Step::Refuse(SendFailure::GroupTooLarge);
    }
    let holders = holders.filter(|holders| key_id == Some(holders.key_id) && !holders.has_left(&targets));
    let there: HashSet<&Jid> = targets.iter().map(|target| &target.device).collect();
    let gone = job.copies.iter().filter(|copy| !there.contains(&copy.device));
    let gone: Vec<_> = gone.map(|copy| copy.device.clone()).collect();

    // Copies of an older key are of no use.
    let made: HashSet<&Jid> =
        job.copies.iter().filter(|_| holders.is_some()).map(|copy| &copy.device).collect();
    let without: HashSet<&Jid> = job.without_keys.iter().collect();
    let has = |target: &Target| holders.as_ref().is_some_and(|holders| holders.has(target));
    let is_to_be_told = |target: &&Target| {
        !has(target) && !made.contains(&target.device) && !without.contains(&target.device)
    };
    let untold: Vec<_> = targets.iter().filter(is_to_be_told).take(MAX_BUNDLES).collect();
    let is_last = untold.len() <= SLICE;
    let slice: Vec<_> = untold.iter().copied().take(SLICE).cloned().collect();
    for member in slice.iter().filter_map(|target| group.member_of(&target.device)) {
        look.mapping(member);
    }
    let has_no_keys = |look: &mut Look<'_>, target: &Target| {
        look.session(target).is_none() && job.bundle(&target.device).is_none()
    };
    // Of all of them, so that their records are loaded together.
    if slice.iter().filter(|target| has_no_keys(look, target)).count() > 0 {
        // And with them those of the next ones.
        let to_ask = untold.into_iter().filter(|target| has_no_keys(look, target));
        return Step::AskBundles(to_ask.map(|target| target.device.clone()).collect());
    }
    let telling = Telling { targets: slice, key, is_new: holders.is_none(), gone };
    if !is_last {
        return Step::Tell(telling);
    }
    let phash = phash(targets.iter().map(|target| &target.device).chain([&me]));
    let kept = Kept::new(&job.id, chat, &job.content).map(|kept| kept.for_group(&group.members));
    let is_lid = group.is_lid;
    let members = group.members.into_iter().map(|member| member.jid).collect();
    Step::InGroup(InGroup { telling, kept, members, is_lid, phash })
}

/// A message again, to a device of a group: of somebody who was in it then, and is in it now.
pub(super) fn again_to(job: &Job, again: &Again, look: &mut Look<'_>, own: &Own, now: Told) -> Step {
    let (chat, device) = (&job.chat, &again.device);
    let Some(kept) = look.kept(job).filter(|kept| kept.chat == *chat) else { return Step::Nobody };
    let Some(group) = group_of(chat, look, now) else { return Step::AskGroup(chat.clone()) };
    let us = group.members.iter().find(|member| own.is_member(member));
    let (Some(us), Some(member)) = (us, group.member_of(device)) else { return Step::Nobody };
    let me = Jid { device: own.pn.device, ..us.jid.clone() };
    let is_ours = own.is_member(member) && device.device == me.device;
    if is_ours || !kept.was_for(member) {
        return Step::Nobody;
    }
    let list = list_of(member, look, now);
    let key = sender_key(chat, &address(&me));
    let key_id = look.at(&key).as_deref().and_then(own_key_id);
    let holders = look.at(&holders::key(chat)).as_deref().and_then(Holders::read);
    look.mapping(member);
    let mut target = Target::new(device.clone(), false, member.other_like(device).as_ref());
    let session = look.session(&target);
    if !look.missing.is_empty() {
        return Step::Nobody;
    }
    // The list that is kept may be from before the device was linked.
    let is_known = |list: &DeviceList| list.of(&member.jid).any(|known| known.device == device.device);
    match list {
        Some(list) if is_known(&list) => {}
        Some(list) if list.told.unix_s >= job.begun_unix_s => return Step::Nobody,
        _ => return Step::AskDevices(vec![member.jid.clone()]),
    }
    let Some(kept) = kept.counted(&target.name) else { return Step::Nobody };
    if again.wants_new_session(session) && !job.is_asked_for(device) {
        return Step::AskBundles(vec![device.clone()]);
    }
    target.is_to_begin = job.bundle(device).is_some();
    if session.is_none() && !target.is_to_begin {
        return Step::Nobody;
    }
    let is_another = again.is_another(session) || look.has_new_identity(job, &target);
    let is_current = holders.is_some_and(|holders| key_id == Some(holders.key_id)) && !is_another;
    Step::AgainInGroup { target, kept, key: is_current.then_some(key), is_another }
}

fn group_of(chat: &Jid, look: &mut Look<'_>, now: Told) -> Option<Group> {
    let group = look.at(&groups::key(chat)).as_deref().and_then(Group::read);
    group.filter(|group| group.told.is_fresh_here(now))
}

fn list_of(member: &Member, look: &mut Look<'_>, now: Told) -> Option<DeviceList> {
    let list = look.at(&devices::key(&member.jid)).as_deref().and_then(DeviceList::read);
    list.filter(|list| list.told.is_fresh_here(now))
}

impl Own {
    fn is_member(&self, member: &Member) -> bool {
        self.is(&member.jid) || member.other.as_ref().is_some_and(|other| self.is(other))
    }
}

impl Member {
    /// The other address of a device than the one that it is named by.
    fn other_like(&self, device: &Jid) -> Option<Jid> {
        if self.jid.is_same_user(device) {
            return self.other_of(device);
        }
        Some(Jid { device: device.device, ..self.jid.clone() })
    }
}

impl Job {
    fn is_asked_for(&self, device: &Jid) -> bool {
        self.bundle(device).is_some() || self.without_keys.contains(device)
    }
}

impl Look<'_> {
    /// That a member's addresses belong together is written down with the sessions that are named by it.
    fn mapping(&mut self, member: &Member) {
        for (key, _) in member.other.iter().flat_map(|other| mappings(&member.jid, other)) {
            self.at(&key);
        }
    }

    /// Whether a device that gives its keys has another identity than before.
    fn has_new_identity(&mut self, job: &Job, target: &Target) -> bool {
        let Some(bundle) = job.bundle(&target.device) else { return false };
        let keys: Vec<_> = target.identity_keys().collect();
        let before = keys.iter().find_map(|key| self.at(key));
        before.is_some_and(|before| {
            identity::observe(Some(&before), &bundle.identity)
                .is_ok_and(|(seen, _)| matches!(seen, Seen::Changed { .. }))
        })
    }
}
