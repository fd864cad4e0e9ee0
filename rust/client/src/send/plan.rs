//! What a message needs next, told from the records alone: pure, and asked again after each answer.

mod group;

use runner_proto::jid::Jid;
use runner_signal::session;

pub(super) use group::{InGroup, Telling};

use super::{
    Again, Job, Purpose, SendFailure,
    devices::{self, DeviceList, Told, phash},
    groups::is_group,
    ring::RING,
    sent::Kept,
};
use crate::{
    receive::{is_lid, mapping_of, names, other_of},
    record::{Found, RecordKey, RecordKind, Records},
};

/// From which asking on a device gets a new session, whatever it says: with the one that there is, it has failed.
const NEW_SESSION_FROM: u64 = 2;

/// Our own device, by its two addresses.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) pn: Jid,
    pub(super) lid: Option<Jid>,
}

impl Own {
    /// Our address in the address space of `like`.
    fn like(&self, like: &Jid) -> &Jid {
        self.lid.as_ref().filter(|_| is_lid(like)).unwrap_or(&self.pn)
    }

    pub(super) fn is(&self, jid: &Jid) -> bool {
        self.pn.is_same_user(jid) || self.lid.as_ref().is_some_and(|lid| lid.is_same_user(jid))
    }
}

/// One device that gets a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) device: Jid,
    /// It is one of ours.
    pub(super) is_own: bool,
    /// The name of its records.
    pub(super) name: String,
    /// Where they may lie still.
    pub(super) still: Option<String>,
    /// Its other address, by which they are named.
    pub(super) other: Option<Jid>,
    /// With its bundle, although there is a session.
    pub(super) is_to_begin: bool,
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Step {
    /// Records must be here first.
    Load(Vec<RecordKey>),
    /// The server is to say which devices these users have.
    AskDevices(Vec<Jid>),
    /// The server is to give the keys of these devices.
    AskBundles(Vec<Jid>),
    /// The server is to say who is in this group.
    AskGroup(Jid),
    /// Everything is here.
    Ready {
        targets: Vec<Target>,
        kept: Option<Kept>,
        /// All devices that should get a copy, whether they have keys or not, and ours.
        phash: String,
    },
    /// Our sender key is to be encrypted for some devices of a group, and then for more.
    Tell(Telling),
    /// Everything is here for a group.
    InGroup(InGroup),
    /// Everything is here to send a group's message to one of its devices again.
    AgainInGroup {
        target: Target,
        kept: Kept,
        /// The record of our sender key, which it gets with it; `None`: there is none that it may have.
        key: Option<RecordKey>,
        /// Another device is behind that address than the one that has our sender key.
        is_another: bool,
    },
    /// There is nobody to write to.
    Nobody,
    /// It may not be sent.
    Refuse(SendFailure),
}

/// What comes next for a message.
/// `now` is the time, and what this connection's lists bear.
pub(super) fn next(job: &Job, records: &mut Records, own: &Own, now: Told) -> Step {
    let mut look = Look { records, user: job.number, missing: Vec::new() };
    let step = match &job.purpose {
        Purpose::New { .. } if is_group(&job.chat) => group::new(job, &mut look, own, now),
        Purpose::New { .. } => new(job, &mut look, own, now),
        Purpose::Again(again) if is_group(&job.chat) => group::again_to(job, again, &mut look, own, now),
        Purpose::Again(again) => again_to(job, again, &mut look, own),
    };
    if look.missing.is_empty() { step } else { Step::Load(look.missing) }
}

fn new(job: &Job, look: &mut Look<'_>, own: &Own, now: Told) -> Step {
    let chat = &job.chat;
    look.ring(job);
    let me = own.like(chat);
    let is_to_self = own.is(chat);
    let users = if is_to_self { vec![me.to_non_ad()] } else { vec![chat.clone(), me.to_non_ad()] };
    let mappings: Vec<_> = users.iter().map(|user| look.at(&mapping_of(user))).collect();
    let lists: Vec<_> = users
        .iter()
        .map(|user| look.at(&devices::key(user)).as_deref().and_then(DeviceList::read))
        .map(|list| list.filter(|list| list.told.is_fresh(now)))
        .collect();
    let is_missing = !look.missing.is_empty();
    let unknown: Vec<_> =
        users.iter().zip(&lists).filter(|(_, list)| list.is_none()).map(|(user, _)| user.clone()).collect();
    if is_missing || !unknown.is_empty() {
        return Step::AskDevices(unknown);
    }
    let mut targets = Vec::new();
    for ((user, list), mapping) in users.iter().zip(lists.iter().flatten()).zip(&mappings) {
        for device in list.of(user) {
            let is_own = own.is(&device);
            if is_own && device.device == me.device {
                continue;
            }
            let other = other_of(&device, mapping.as_deref());
            let target = Target::new(device, is_own, other.as_ref());
            // Listed by both of its addresses, a device would get two contents under one message key.
            if targets.iter().all(|known: &Target| known.name != target.name) {
                targets.push(target);
            }
        }
    }
    let has_session: Vec<_> = targets.iter().map(|target| look.session(target).is_some()).collect();
    let is_known = |target: &Target| job.bundle(&target.device).is_some();
    let is_asked = |target: &Target| is_known(target) || job.without_keys.contains(&target.device);
    let with = || targets.iter().zip(&has_session);
    let to_ask: Vec<_> =
        with().filter(|(target, has)| !**has && !is_asked(target)).map(|(t, _)| t.device.clone()).collect();
    if !to_ask.is_empty() {
        return Step::AskBundles(to_ask);
    }
    let reached: Vec<_> =
        with().filter(|(target, has)| **has || is_known(target)).map(|(target, _)| target.clone()).collect();
    if !reached.iter().any(|target| !target.is_own || is_to_self) {
        return Step::Nobody;
    }
    let phash = phash(targets.iter().map(|target| &target.device).chain([me]));
    Step::Ready { targets: reached, kept: Kept::new(&job.id, chat, &job.content), phash }
}

/// A message again, to the device that asks; nobody who asks for what is not theirs, or too often, is answered.
fn again_to(job: &Job, again: &Again, look: &mut Look<'_>, own: &Own) -> Step {
    let device = &again.device;
    let kept = look.kept(job);
    let mapping = look.at(&mapping_of(device));
    let is_own = own.is(device);
    let other = other_of(device, mapping.as_deref());
    let mut target = Target::new(device.clone(), is_own, other.as_ref());
    let session = look.session(&target);
    let Some(kept) = kept else { return Step::Nobody };
    let is_of_chat = kept.chat.is_same_user(device)
        || other.as_ref().is_some_and(|other| kept.chat.is_same_user(other))
        || (is_own && *device != own.pn && own.lid.as_ref() != Some(device));
    let Some(kept) = kept.counted(&target.name).filter(|_| is_of_chat) else { return Step::Nobody };
    let wants_new = again.wants_new_session(session);
    if wants_new && job.bundle(device).is_none() && !job.without_keys.contains(device) {
        return Step::AskBundles(vec![device.clone()]);
    }
    target.is_to_begin = job.bundle(device).is_some();
    if session.is_none() && !target.is_to_begin {
        return Step::Nobody;
    }
    Step::Ready { targets: vec![target], kept: Some(kept), phash: String::new() }
}

impl Again {
    /// Whether another device asks than the one that the session, by its registration id, is with.
    fn is_another(&self, session: Option<u32>) -> bool {
        self.registration_id.is_some_and(|id| session.is_some_and(|with| with != id))
    }

    fn wants_new_session(&self, session: Option<u32>) -> bool {
        let is_of_no_use = self.is_session_lost || self.count >= NEW_SESSION_FROM;
        session.is_none() || self.is_another(session) || is_of_no_use
    }
}

impl Target {
    fn new(device: Jid, is_own: bool, other: Option<&Jid>) -> Self {
        let (name, still) = names(&device, other);
        Self { device, is_own, name, still, other: other.cloned(), is_to_begin: false }
    }

    /// Where its sessions may be, the likelier place first.
    pub(super) fn session_keys(&self) -> impl Iterator<Item = RecordKey> {
        self.keys(RecordKind::Session)
    }

    /// The same for its identity.
    pub(super) fn identity_keys(&self) -> impl Iterator<Item = RecordKey> {
        self.keys(RecordKind::Identity)
    }

    fn keys(&self, kind: RecordKind) -> impl Iterator<Item = RecordKey> {
        let names = [Some(&self.name), self.still.as_ref()];
        names.into_iter().flatten().map(move |name| RecordKey::new(kind, name))
    }
}

/// Records that are looked at, and those that are not here.
struct Look<'a> {
    records: &'a mut Records,
    user: u64,
    missing: Vec<RecordKey>,
}

impl Look<'_> {
    fn at(&mut self, key: &RecordKey) -> Option<Vec<u8>> {
        match self.records.find(key, self.user) {
            Found::Here(record) => record.map(<[u8]>::to_vec),
            Found::Missing => {
                if !self.missing.contains(key) {
                    self.missing.push(key.clone());
                }
                None
            }
        }
    }

    /// The message that is asked for, if it is kept still.
    fn kept(&mut self, job: &Job) -> Option<Kept> {
        RING.find(&job.id, |key| self.at(key)).map(|(_, kept)| kept)
    }

    /// What a new message is kept by.
    fn ring(&mut self, job: &Job) {
        for key in RING.keys(&job.id) {
            self.at(&key);
        }
    }

    /// The peer's registration id, when there is a session with which a message can be sent.
    fn session(&mut self, target: &Target) -> Option<u32> {
        for key in target.identity_keys() {
            self.at(&key);
        }
        let keys: Vec<_> = target.session_keys().collect();
        let found = keys.iter().map(|key| self.at(key)).collect::<Vec<_>>();
        found.iter().flatten().find_map(|record| {
            let current = session::summary(record).ok()?.current?;
            Some(current.remote_registration_id)
        })
    }
}
