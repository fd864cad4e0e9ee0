//! What the client does for messages to groups besides: who is in them, and who has been told our sender key.

use runner_proto::{jid::Jid, node::NodeRef, session::Io};

use super::error_code;
use crate::{
    Client, Effect, Write,
    send::{
        Job, SendFailure, Stage,
        devices::Told,
        groups::{self, Group, is_group},
        holders::{self, Holders},
        plan::{InGroup, Telling},
        seal,
    },
};

/// The server's number for a message whose members are not called as the group calls them (any more).
/// docs/protocol.md, "Groups".
const STALE_ADDRESSING: u32 = 421;

/// Of a request for a group: we are not in it; there is none.
const FORBIDDEN: u32 = 403;
const NOT_FOUND: u32 = 404;

impl Client {
    /// The server's answer to who is in a group.
    pub(super) fn take_group(
        &mut self,
        job: &Job,
        iq: NodeRef<'_>,
        is_error: bool,
        told: Told,
        effects: &mut Vec<Effect>,
    ) -> Option<SendFailure> {
        if is_error {
            return Some(match error_code(iq) {
                FORBIDDEN => SendFailure::NotAMember,
                NOT_FOUND => SendFailure::UnknownGroup,
                code => SendFailure::Refused(code),
            });
        }
        let group = match Group::of_answer(iq, told) {
            Ok(group) => group,
            Err(failure) => return Some(failure),
        };
        let (key, value) = (groups::key(&job.chat), group.to_record());
        self.receiver.records.set(key.clone(), Some(value.clone()), job.number);
        // Nobody waits for it: what is lost is asked for again.
        effects.push(Effect::Commit { token: 0, writes: vec![Write::PutRecord { key, value }] });
        None
    }

    /// Our sender key, for some of those who are to be told it; false when it is over.
    pub(super) fn tell_some(
        &mut self,
        job: &mut Job,
        telling: &Telling,
        io: &mut Io<'_>,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let told = seal::tell(job, telling, &self.keys, &mut self.receiver.records, io.entropy);
        let Some(told) = told else {
            self.give_up(job, SendFailure::Store, effects);
            return false;
        };
        if telling.is_new {
            job.copies = Vec::new();
        }
        let has_copy = |device: &Jid| told.copies.iter().any(|copy| copy.device == *device);
        let without = telling.targets.iter().map(|target| &target.device).filter(|device| !has_copy(device));
        job.without_keys.extend(without.cloned());
        job.copies.extend(told.copies);
        // Those that are left are of the next ones.
        let is_told = |device: &Jid| telling.targets.iter().any(|target| target.device == *device);
        job.bundles.retain(|(device, _)| !is_told(device));
        let token = self.commit_of_sends(told.writes, &told.new_identities, effects);
        job.stage = Stage::Telling { token };
        true
    }

    /// A message for a group, with the last of those who are told our sender key first; false when it is over.
    pub(super) fn seal_in_group(
        &mut self,
        job: &mut Job,
        plan: InGroup,
        io: &mut Io<'_>,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let sealed = seal::in_group(job, &plan, &self.keys, &mut self.receiver.records, io.entropy);
        let Some((sealed, told)) = sealed else {
            self.give_up(job, SendFailure::Store, effects);
            return false;
        };
        (job.told, job.members) = (told, plan.members);
        self.commit_sealed(job, Ok(sealed), plan.phash, effects)
    }

    /// The server has a message: whoever it told our sender key has it.
    pub(super) fn confirm_told(&mut self, job: &Job, effects: &mut Vec<Effect>) {
        if job.told.is_empty() {
            return;
        }
        let key = holders::key(&job.chat);
        // It is not here when the store has failed meanwhile: then they are told once more.
        let Some(mut holders) = self.receiver.records.peek(&key).and_then(Holders::read) else { return };
        let confirmed = job.told.iter().filter(|name| holders.confirm(name)).count();
        if confirmed > 0 {
            let value = holders.to_record();
            self.receiver.records.set(key.clone(), Some(value.clone()), job.number);
            effects.push(Effect::Commit { token: 0, writes: vec![Write::PutRecord { key, value }] });
        }
    }

    /// The server refuses a message. One that called the members of its group wrongly is written once more, when they
    /// are known: then it is not over, and there is none to give up.
    pub(super) fn refused_in_group(
        &mut self,
        mut job: Job,
        code: u32,
        effects: &mut Vec<Effect>,
    ) -> Option<Job> {
        if code != STALE_ADDRESSING || job.is_again() || !is_group(&job.chat) {
            return Some(job);
        }
        self.forget_group(&job.chat, effects);
        if std::mem::replace(&mut job.was_refused, true) {
            return Some(job);
        }
        // As a user of records it is a new one: those of before may be gone.
        (job.number, job.told, job.stage) = (self.receiver.next_number(), Vec::new(), Stage::Preparing);
        if let Some(sender) = self.sender.as_mut() {
            sender.jobs.push_front(job);
        }
        None
    }

    /// The server knows other devices of a chat than we have written to: it is asked before the next message.
    pub(super) fn forget_chat(&mut self, job: &Job, effects: &mut Vec<Effect>) {
        if !is_group(&job.chat) {
            self.forget_devices([job.chat.clone()], effects);
            return self.forget_own_devices(effects);
        }
        self.forget_devices(job.members.iter().cloned(), effects);
        self.forget_group(&job.chat, effects);
    }

    /// The server tells of a change to a group.
    pub(crate) fn on_group_notification(
        &mut self,
        notification: NodeRef<'_>,
        io: &mut Io<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(group) = notification.attr("from").and_then(|from| from.to_jid()) else { return };
        if is_group(&group) {
            self.forget_group(&group, effects);
            self.advance(io, effects);
        }
    }

    /// Somebody else is in a group than before, or it is another one: the server is asked before the next message.
    fn forget_group(&mut self, group: &Jid, effects: &mut Vec<Effect>) {
        let key = groups::key(group);
        if let Some(sender) = &mut self.sender {
            // An answer or a load that is under way has what was.
            for job in sender.jobs.iter_mut().filter(|job| job.chat == *group) {
                if matches!(&job.stage, Stage::Asking { about, .. } if about.contains(group)) {
                    job.stage = Stage::Preparing;
                }
            }
        }
        self.receiver.records.forget(&key);
        effects.push(Effect::Commit { token: 0, writes: vec![Write::RemoveRecord(key)] });
    }
}
