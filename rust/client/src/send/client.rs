//! What the client does with messages of ours: asks for what they need, commits, sends, and tells what became of them.

mod again;
mod group;

use runner_proto::{
    iq::Pending,
    jid::{Jid, Server},
    node::{NodeRef, Writer},
    phase::Phase,
    session::{Io, Request},
    time::Instant,
};

use super::{
    Job, MAX_ASKS, MAX_GROUP_ASKS, MAX_IN_FLIGHT, MAX_TEXT, Outgoing, Purpose, Receipt, SendFailure, Stage,
    body,
    devices::{self, DeviceList, Told},
    groups::{self, is_group},
    plan::{self, Own, Step},
    seal::{self, Sealed},
};
use crate::{
    Client, Cx, Effect, Event, Write,
    client::Ask,
    receive::{LoadFor, mappings},
};

/// Tells that a message was not sent.
fn fail(token: u64, failure: SendFailure, effects: &mut Vec<Effect>) {
    effects.push(Effect::Event(Event::Sent { token, outcome: Err(failure) }));
}

impl Client {
    /// A message is to be sent.
    pub(crate) fn begin_send(&mut self, outgoing: Outgoing, cx: &mut Cx<'_>) {
        let Outgoing { token, chat, id, text, quoted } = outgoing;
        let sender = self.sender.as_deref();
        let is_twin = sender.is_some_and(|sender| {
            sender.jobs.iter().any(|job| !job.is_again() && *job.id == *id && job.chat.is_same_user(&chat))
        });
        let failure = if self.session.phase() != Phase::Online {
            Some(SendFailure::NotOnline)
        } else if !(is_user(&chat) || is_group(&chat)) {
            Some(SendFailure::NotAUser)
        } else if text.len() > MAX_TEXT {
            Some(SendFailure::TooLong)
        } else if is_twin || sender.is_some_and(|sender| sender.count(false) >= MAX_IN_FLIGHT) {
            Some(SendFailure::Busy)
        } else {
            None
        };
        if let Some(failure) = failure {
            self.session.counters_mut().sends_failed += 1;
            return fail(token, failure, cx.effects);
        }
        let content = body::text(&text, quoted.as_ref());
        let mut job = self.job(Purpose::New { token }, chat.to_non_ad(), id.into(), (cx.now, cx.unix_ms));
        job.content = content;
        self.sender.get_or_insert_default().jobs.push_back(job);
        self.advance_sends(cx);
    }

    fn job(&mut self, purpose: Purpose, chat: Jid, id: Box<str>, (now, unix_ms): (Instant, u64)) -> Job {
        Job {
            number: self.receiver.next_number(),
            purpose,
            id,
            content: Vec::new(),
            begun_unix_s: unix_ms / 1000,
            deadline: now + self.config.send_timeout,
            stage: Stage::Preparing,
            asks_left: if is_group(&chat) { MAX_GROUP_ASKS } else { MAX_ASKS },
            chat,
            bundles: Vec::new(),
            without_keys: Vec::new(),
            copies: Vec::new(),
            told: Vec::new(),
            members: Vec::new(),
            was_refused: false,
        }
    }

    /// Does what can be done for the messages that are on their way.
    pub(crate) fn advance_sends(&mut self, cx: &mut Cx<'_>) {
        let Cx { now, unix_ms, out, entropy, effects, .. } = cx;
        let mut io = Io { now: *now, unix_ms: *unix_ms, out, entropy: &mut **entropy };
        self.advance(&mut io, effects);
    }

    fn advance(&mut self, io: &mut Io<'_>, effects: &mut Vec<Effect>) {
        self.answer_askings(io);
        let Some(mut sender) = self.sender.take() else { return };
        let mut held: Vec<Jid> = Vec::new();
        sender.jobs.retain_mut(|job| {
            let is_held = !job.is_again() && held.iter().any(|chat| chat.is_same_user(&job.chat));
            let stays =
                if is_held || job.stage != Stage::Preparing { true } else { self.prepare(job, io, effects) };
            if stays && job.holds_chat() {
                held.push(job.chat.clone());
            }
            stays
        });
        self.sender = Some(sender);
        self.drop_empty_sender();
    }

    /// The next steps of a message, as far as nothing must be waited for; false when it is over.
    fn prepare(&mut self, job: &mut Job, io: &mut Io<'_>, effects: &mut Vec<Effect>) -> bool {
        let (own, now) = (self.own_addresses(), self.told(io.unix_ms));
        match plan::next(job, &mut self.receiver.records, &own, now) {
            Step::Load(keys) => {
                let records = &mut self.receiver.records;
                let keys = keys.into_iter().filter(|key| records.want(key, job.number)).collect();
                if let Some((token, keys)) = self.receiver.load(LoadFor::Sends, keys) {
                    effects.push(Effect::Load { token, keys });
                }
                true
            }
            Step::AskDevices(users) => {
                let sid = format!("{:08x}", io.entropy.u32());
                self.request_for(job, Ask::Devices, users, io, effects, |writer, users| {
                    devices::write_query(writer, users, &sid);
                })
            }
            Step::AskBundles(devices) => {
                self.request_for(job, Ask::Bundles, devices, io, effects, devices::write_bundle_request)
            }
            Step::AskGroup(group) => {
                self.request_for(job, Ask::Group, vec![group], io, effects, |writer, _| {
                    groups::write_query(writer);
                })
            }
            Step::Refuse(failure) => {
                self.give_up(job, failure, effects);
                false
            }
            Step::Nobody => {
                self.give_up(job, SendFailure::UnknownUser, effects);
                false
            }
            Step::Tell(telling) => self.tell_some(job, &telling, io, effects),
            Step::InGroup(plan) => self.seal_in_group(job, plan, io, effects),
            Step::AgainInGroup { target, kept, key, is_another } => {
                let what = (&target, &kept, key.as_ref());
                let (keys, records) = (&self.keys, &mut self.receiver.records);
                let sealed = seal::again_in_group(job, what, is_another, keys, records, io.entropy);
                self.commit_sealed(job, sealed.ok_or(SendFailure::UnknownUser), String::new(), effects)
            }
            Step::Ready { targets, kept, phash } => {
                let (keys, records) = (&self.keys, &mut self.receiver.records);
                let sealed = seal::seal(job, &targets, kept.as_ref(), keys, records, io.entropy);
                job.content = Vec::new();
                self.commit_sealed(job, sealed, phash, effects)
            }
        }
    }

    /// What a message changes becomes durable; false when it is not sent.
    fn commit_sealed(
        &mut self,
        job: &mut Job,
        sealed: Result<Sealed, SendFailure>,
        phash: String,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Sealed { stanza, writes, new_identities } = match sealed {
            Ok(sealed) => sealed,
            Err(failure) => {
                self.give_up(job, failure, effects);
                return false;
            }
        };
        let token = self.commit_of_sends(writes, &new_identities, effects);
        (job.bundles, job.without_keys, job.copies) = (Vec::new(), Vec::new(), Vec::new());
        job.stage = Stage::Committing { token, stanza, phash };
        true
    }

    /// Commits what was encrypted, and tells of whom the identity has changed.
    fn commit_of_sends(
        &mut self,
        writes: Vec<Write>,
        new_identities: &[Jid],
        effects: &mut Vec<Effect>,
    ) -> u64 {
        for jid in new_identities {
            effects.push(Effect::Event(Event::IdentityChanged { jid: jid.to_string() }));
        }
        let token = self.inbox.next_token();
        effects.push(Effect::Commit { token, writes });
        token
    }

    fn request_for(
        &mut self,
        job: &mut Job,
        ask: Ask,
        about: Vec<Jid>,
        io: &mut Io<'_>,
        effects: &mut Vec<Effect>,
        write: impl FnOnce(&mut Writer<'_>, &[Jid]),
    ) -> bool {
        let Some(left) = job.asks_left.checked_sub(1) else {
            self.give_up(job, SendFailure::NoAnswer, effects);
            return false;
        };
        job.asks_left = left;
        let xmlns = match ask {
            Ask::Devices => "usync",
            Ask::Group => "w:g2",
            _ => "encrypt",
        };
        let request = Request { xmlns, is_set: false, purpose: ask as u8 };
        let write = |writer: &mut Writer<'_>| write(writer, &about);
        let number = match about.first().filter(|_| ask == Ask::Group) {
            Some(group) => self.session.request_to(io, request, group, 1, write),
            None => self.session.request(io, request, 1, write),
        };
        job.stage = Stage::Asking { number, about };
        true
    }

    /// The server's answer to a request for devices or keys, or `None`: there was none.
    pub(crate) fn on_send_answer(
        &mut self,
        pending: Pending,
        answer: Option<NodeRef<'_>>,
        is_error: bool,
        io: &mut Io<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(mut sender) = self.sender.take() else { return };
        let is_asking =
            |job: &Job| matches!(job.stage, Stage::Asking { number, .. } if number == pending.number);
        if let Some(index) = sender.jobs.iter().position(is_asking)
            && let Some(job) = sender.jobs.get_mut(index)
        {
            let stage = std::mem::replace(&mut job.stage, Stage::Preparing);
            let about = if let Stage::Asking { about, .. } = stage { about } else { Vec::new() };
            let failure = match answer {
                None => Some(SendFailure::NoAnswer),
                Some(iq) if pending.purpose == Ask::Group as u8 => {
                    self.take_group(job, iq, is_error, self.told(io.unix_ms), effects)
                }
                Some(iq) if is_error => Some(SendFailure::Refused(error_code(iq))),
                Some(iq) if pending.purpose == Ask::Devices as u8 => {
                    self.take_devices(job, iq, &about, self.told(io.unix_ms), effects)
                }
                Some(iq) => {
                    for (device, bundle) in devices::read_bundles(iq) {
                        if about.contains(&device) && job.bundle(&device).is_none() {
                            job.bundles.push((device, bundle));
                        }
                    }
                    let without = about.into_iter().filter(|device| job.bundle(device).is_none());
                    let without: Vec<_> = without.collect();
                    job.without_keys.extend(without);
                    None
                }
            };
            if let Some(failure) = failure
                && let Some(job) = sender.jobs.remove(index)
            {
                self.give_up(&job, failure, effects);
            }
        }
        self.sender = Some(sender);
        self.advance(io, effects);
    }

    /// Keeps which devices users have, and their LIDs.
    fn take_devices(
        &mut self,
        job: &Job,
        iq: NodeRef<'_>,
        about: &[Jid],
        told: Told,
        effects: &mut Vec<Effect>,
    ) -> Option<SendFailure> {
        let found = devices::read_answer(iq, told);
        let is_found = |user: &Jid| found.iter().any(|found| found.user.is_same_user(user));
        let missing: Vec<_> = about.iter().filter(|user| !is_found(user)).collect();
        if missing.iter().any(|user| user.is_same_user(&job.chat)) {
            return Some(SendFailure::UnknownUser);
        }
        let mut changes: Vec<_> =
            missing.into_iter().map(|own| (devices::key(own), DeviceList::empty(told).to_record())).collect();
        for found in found.iter().filter(|found| about.iter().any(|user| user.is_same_user(&found.user))) {
            changes.push((devices::key(&found.user), found.list.to_record()));
            let mappings = found.lid.iter().flat_map(|lid| mappings(&found.user, lid));
            changes.extend(mappings.map(|(key, value)| (key, value.into())));
        }
        let mut writes = Vec::with_capacity(changes.len());
        for (key, value) in changes {
            self.receiver.records.set(key.clone(), Some(value.clone()), job.number);
            writes.push(Write::PutRecord { key, value });
        }
        // Nobody waits for it: what is lost is asked for again.
        effects.push(Effect::Commit { token: 0, writes });
        None
    }

    /// True when the commit was one of a message of ours.
    pub(crate) fn on_send_committed(&mut self, token: u64, is_durable: bool, cx: &mut Cx<'_>) -> bool {
        let Some(sender) = self.sender.as_mut() else { return false };
        let is_waiting = |job: &Job| match &job.stage {
            Stage::Committing { token: of, .. } | Stage::Telling { token: of } => *of == token,
            _ => false,
        };
        let Some(index) = sender.jobs.iter().position(is_waiting) else { return false };
        let Some(job) = sender.jobs.get_mut(index) else { return false };
        let is_again = job.is_again();
        let id = job.id.clone();
        let stage = std::mem::replace(&mut job.stage, Stage::Preparing);
        if let (true, Stage::Telling { .. }) = (is_durable, &stage) {
            // It is being prepared again.
        } else if let (true, Stage::Committing { stanza, phash, .. }) = (is_durable, stage) {
            job.stage = Stage::Left { phash };
            if is_again {
                sender.jobs.remove(index);
                self.session.counters_mut().messages_resent += 1;
            } else {
                self.sends.insert(id, cx.now);
            }
            self.session.send_encoded(&mut crate::client::io(cx), &stanza);
        } else if let Some(job) = sender.jobs.remove(index) {
            self.give_up(&job, SendFailure::Store, cx.effects);
            self.receiver.forget_records();
        }
        self.drop_empty_sender();
        true
    }

    /// The server has a message of ours, or refuses it.
    pub(crate) fn on_send_ack(&mut self, ack: NodeRef<'_>, io: &mut Io<'_>, effects: &mut Vec<Effect>) {
        let Some(id) = ack.attr("id") else { return };
        let Some(sender) = self.sender.as_mut() else { return };
        let has_left = |job: &Job| matches!(job.stage, Stage::Left { .. }) && id == *job.id;
        let Some(index) = sender.jobs.iter().position(has_left) else { return };
        let Some(job) = sender.jobs.remove(index) else { return };
        let number = |key| ack.attr(key).and_then(|value| value.parse_u64());
        if let Some(code) = ack.attr("error") {
            let code = code.parse_u64().and_then(|code| u32::try_from(code).ok()).unwrap_or_default();
            if let Some(job) = self.refused_in_group(job, code, effects) {
                self.give_up(&job, SendFailure::Refused(code), effects);
            }
        } else if let Purpose::New { token } = job.purpose {
            self.session.counters_mut().messages_sent += 1;
            let receipt = Receipt { server_unix_s: number("t") };
            effects.push(Effect::Event(Event::Sent { token, outcome: Ok(receipt) }));
            self.confirm_told(&job, effects);
            if let (Stage::Left { phash }, Some(servers)) = (&job.stage, ack.attr("phash"))
                && servers != *phash.as_str()
            {
                self.forget_chat(&job, effects);
            }
        }
        // Others of its chat may have waited for it.
        self.advance(io, effects);
    }

    /// The devices of these users have changed: the server is asked before they are written to again.
    pub(crate) fn forget_devices(&mut self, users: impl IntoIterator<Item = Jid>, effects: &mut Vec<Effect>) {
        let keys: Vec<_> = users.into_iter().map(|user| devices::key(&user)).collect();
        keys.iter().for_each(|key| self.receiver.records.forget(key));
        let writes = keys.into_iter().map(Write::RemoveRecord).collect();
        effects.push(Effect::Commit { token: 0, writes });
    }

    /// The same for our own account.
    pub(crate) fn forget_own_devices(&mut self, effects: &mut Vec<Effect>) {
        let Own { pn, lid } = self.own_addresses();
        self.forget_devices([pn].into_iter().chain(lid), effects);
    }

    /// Gives up what took too long, and begins with what may be sent again now.
    pub(crate) fn check_send_deadlines(&mut self, cx: &mut Cx<'_>) {
        if let Some(mut sender) = self.sender.take() {
            sender.jobs.retain(|job| {
                let is_over = job.deadline <= cx.now;
                if is_over {
                    self.give_up(job, late(job), cx.effects);
                }
                !is_over
            });
            self.sender = Some(sender);
            self.drop_empty_sender();
        }
        self.advance_sends(cx);
    }

    /// The store cannot be read: what needs records is not sent on this connection.
    pub(crate) fn give_up_sends(&mut self, cx: &mut Cx<'_>) {
        let Some(mut sender) = self.sender.take() else { return };
        sender.jobs.retain(|job| {
            let stays = job.stage != Stage::Preparing;
            if !stays {
                self.give_up(job, SendFailure::Store, cx.effects);
            }
            stays
        });
        self.sender = Some(sender);
        self.drop_empty_sender();
        self.tell(cx);
    }

    /// The connection is over: tells what became of all that was on its way.
    pub(crate) fn end_sends(&mut self, effects: &mut Vec<Effect>) {
        if let Some(askings) = self.askings.take() {
            self.session.counters_mut().messages_not_resent += askings.len();
        }
        let Some(sender) = self.sender.take() else { return };
        for job in &sender.jobs {
            let failure = match job.stage {
                Stage::Left { .. } => SendFailure::Unconfirmed,
                _ => SendFailure::NotOnline,
            };
            self.give_up(job, failure, effects);
        }
    }

    fn give_up(&mut self, job: &Job, failure: SendFailure, effects: &mut Vec<Effect>) {
        match job.purpose {
            Purpose::New { token } => {
                self.session.counters_mut().sends_failed += 1;
                fail(token, failure, effects);
            }
            Purpose::Again(_) => self.session.counters_mut().messages_not_resent += 1,
        }
    }

    fn drop_empty_sender(&mut self) {
        if self.sender.as_ref().is_some_and(|sender| sender.jobs.is_empty()) {
            self.sender = None;
            self.drop_unused_records();
        }
    }

    /// What the server says at this time.
    const fn told(&self, unix_ms: u64) -> Told {
        Told { unix_s: unix_ms / 1000, epoch: self.epoch }
    }

    fn own_addresses(&self) -> Own {
        Own { pn: self.own_jid(), lid: self.own_lid() }
    }
}

/// Why a message that took too long is given up.
const fn late(job: &Job) -> SendFailure {
    match job.stage {
        Stage::Preparing | Stage::Asking { .. } => SendFailure::NoAnswer,
        Stage::Telling { .. } | Stage::Committing { .. } => SendFailure::Store,
        Stage::Left { .. } => SendFailure::Unconfirmed,
    }
}

fn is_user(jid: &Jid) -> bool {
    matches!(jid.server, Server::Pn | Server::Lid) && !jid.user.is_empty()
}

fn error_code(iq: NodeRef<'_>) -> u32 {
    let code = iq.child("error").and_then(|error| error.attr("code")).and_then(|code| code.parse_u64());
    code.and_then(|code| u32::try_from(code).ok()).unwrap_or_default()
}
