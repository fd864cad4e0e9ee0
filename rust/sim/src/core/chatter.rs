//! When contacts write: on command, and by themselves.

use std::time::Duration;

use runner_proto::time::Instant;
use serde_json::{Value, json};

use super::command::{Chatter, Mishear, NewIdentity, Say, Target};
use super::contact::{CONTACTS, Contact, FIRST_CONTACT, MOST_CONTACTS, Place};
use super::hub::Hub;
use super::wording::{Mix, Wording};
use super::world::{Cx, DeviceId};

/// Reactions of contacts that write by themselves.
const EMOJIS: [&str; 4] = ["👍", "❤️", "😂", "🙏"];

/// Contacts write by themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Talk {
    every: Duration,
    /// When the next message is due.
    pub(super) at: Instant,
    kinds: Mix,
    groups: f64,
}

impl Hub {
    /// Contacts write to every device of a target that this server knows, connected or not.
    pub(super) fn say(&mut self, say: &Say, cx: &mut Cx<'_>) -> Result<Value, String> {
        let index = u64::from(say.contact);
        let contact = (FIRST_CONTACT + index, 0);
        let most = if say.group { CONTACTS } else { MOST_CONTACTS };
        if say.contact >= most {
            return Err(format!("no contact {index}; there are {most}"));
        }
        let fleet = self.world.fleet;
        self.world.contacts.entry(contact).or_insert_with(|| Contact::new(fleet, say.contact));
        let places = self.places_of(say, cx);
        let mut ids = Vec::new();
        for n in 0..say.n.max(1) {
            for &place in &places {
                let text = say.text.replace("{n}", &n.to_string());
                ids.push(self.world.say(contact, place, say.kind, &text, cx)?);
            }
        }
        Ok(json!({ "targets": places.len(), "t": cx.unix_ms, "doneAt": cx.unix_ms, "ids": ids }))
    }

    /// A contact will not be able to read what it is sent.
    pub(super) fn mishear(&mut self, mishear: &Mishear, cx: &Cx<'_>) -> Result<Value, String> {
        let index = u64::from(mishear.contact);
        let Some(contact) = self.world.contacts.get_mut(&(FIRST_CONTACT + index, 0)) else {
            return Err(format!("no contact {index}; there are {CONTACTS}"));
        };
        contact.mishears = mishear.n;
        Ok(json!({ "targets": 1, "t": cx.unix_ms, "doneAt": cx.unix_ms }))
    }

    /// A contact is linked anew.
    pub(super) fn renew_contact(&mut self, new: &NewIdentity, cx: &mut Cx<'_>) -> Result<Value, String> {
        let index = u64::from(new.contact);
        let contact = (FIRST_CONTACT + index, 0);
        if !self.world.contacts.contains_key(&contact) {
            return Err(format!("no contact {index}; there are {CONTACTS}"));
        }
        let told = self.devices_of(&new.target, !new.target.is_given());
        self.world.renew_contact(contact, &told, cx);
        Ok(json!({ "targets": told.len(), "t": cx.unix_ms, "doneAt": cx.unix_ms }))
    }

    /// The server loses what devices have uploaded.
    pub(super) fn lose_keys(&mut self, target: &Target, cx: &Cx<'_>) -> Value {
        let devices = self.devices_of(target, false);
        devices.iter().for_each(|device| self.world.lose_keys(*device));
        json!({ "targets": devices.len(), "t": cx.unix_ms, "doneAt": cx.unix_ms })
    }

    /// The devices of a target that this server knows, connected or not, in order.
    fn devices_of(&self, target: &Target, all: bool) -> Vec<DeviceId> {
        let is_meant = |device: &&DeviceId| all || target.names(device.0);
        let mut devices: Vec<_> = self.world.accounts.keys().filter(is_meant).copied().collect();
        devices.sort_unstable();
        devices
    }

    fn places_of(&mut self, say: &Say, cx: &Cx<'_>) -> Vec<Place> {
        let mut devices = self.devices_of(&say.target, false);
        if !say.group {
            return devices.into_iter().map(Place::Device).collect();
        }
        devices.dedup_by_key(|(username, _)| *username);
        let unix_s = cx.unix_s();
        devices
            .iter()
            .map(|(username, _)| Place::Group(self.world.group_of_user(*username, unix_s)))
            .collect()
    }

    /// Begins or ends the chatter.
    pub(super) fn set_chatter(&mut self, chatter: Chatter, cx: &Cx<'_>) -> Value {
        let every = (chatter.per_minute > 0.0)
            .then(|| Duration::try_from_secs_f64(60.0 / chatter.per_minute).ok())
            .flatten()
            .map(|every| every.max(Duration::from_millis(1)));
        let Chatter { kinds, groups, .. } = chatter;
        self.talk = every.map(|every| Talk { every, at: cx.now + every, kinds, groups });
        json!({ "everySeconds": every.map(|every| every.as_secs_f64()) })
    }

    /// A contact writes to somebody who is connected, when it is time.
    pub(super) fn chat(&mut self, cx: &mut Cx<'_>) {
        let Some(talk) = self.talk.filter(|talk| talk.at <= cx.now) else { return };
        self.talk = Some(Talk { at: (talk.at + talk.every).max(cx.now), ..talk });
        let mut online: Vec<DeviceId> =
            self.peers.values().filter(|peer| peer.logged_in).filter_map(|peer| peer.device).collect();
        online.sort_unstable();
        let chosen = cx.entropy.below(u32::try_from(online.len()).unwrap_or(u32::MAX));
        let Some(&device) = online.get(chosen as usize) else { return };
        let contact = (FIRST_CONTACT + u64::from(cx.entropy.below(CONTACTS)), 0);
        let in_group = f64::from(cx.entropy.below(1_000)) < talk.groups * 1_000.0;
        let place = if in_group {
            Place::Group(self.world.group_of_user(device.0, cx.unix_s()))
        } else {
            Place::Device(device)
        };
        let kind = talk.kinds.draw(cx.entropy);
        let number = self.world.counters.contact_messages;
        let emoji = EMOJIS.get(cx.entropy.below(4) as usize).copied().unwrap_or_default();
        let text = match kind {
            Wording::Reaction => emoji.to_owned(),
            Wording::Reply => format!("to say it again: hello {number}"),
            _ => format!("hello {number}"),
        };
        // A device that the server let in without knowing its keys cannot be written to.
        let _ = self.world.say(contact, place, kind, &text, cx);
    }
}
