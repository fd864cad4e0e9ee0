//! When contacts write: on command, and by themselves.

use std::time::Duration;

use serde_json::{Value, json};

use super::command::{Chatter, Say};
use super::contact::{CONTACTS, FIRST_CONTACT};
use super::hub::Hub;
use super::world::{Cx, DeviceId};

impl Hub {
    /// Contacts write to every device of a target that this server knows, connected or not.
    pub(super) fn say(&mut self, say: &Say, cx: &mut Cx<'_>) -> Result<Value, String> {
        let index = u64::from(say.contact);
        let contact = (FIRST_CONTACT + index, 0);
        if !self.world.contacts.contains_key(&contact) {
            return Err(format!("no contact {index}; there are {}", CONTACTS));
        }
        let of_target = |device: &&DeviceId| say.target.names(device.0);
        let mut devices: Vec<_> = self.world.accounts.keys().filter(of_target).copied().collect();
        devices.sort_unstable();
        let mut ids = Vec::new();
        for n in 0..say.n.max(1) {
            for &device in &devices {
                let text = say.text.replace("{n}", &n.to_string());
                ids.push(self.world.say(contact, device, &text, cx)?);
            }
        }
        Ok(json!({ "targets": devices.len(), "t": cx.unix_ms, "doneAt": cx.unix_ms, "ids": ids }))
    }

    /// Begins or ends the chatter.
    pub(super) fn set_chatter(&mut self, chatter: Chatter, cx: &Cx<'_>) -> Value {
        let every = (chatter.per_minute > 0.0)
            .then(|| Duration::try_from_secs_f64(60.0 / chatter.per_minute).ok())
            .flatten()
            .map(|every| every.max(Duration::from_millis(1)));
        self.chatter = every.map(|every| (every, cx.now + every));
        json!({ "everySeconds": every.map(|every| every.as_secs_f64()) })
    }

    /// A contact writes to somebody who is connected, when it is time.
    pub(super) fn chat(&mut self, cx: &mut Cx<'_>) {
        let Some((every, at)) = self.chatter.filter(|(_, at)| *at <= cx.now) else { return };
        self.chatter = Some((every, (at + every).max(cx.now)));
        let mut online: Vec<DeviceId> =
            self.peers.values().filter(|peer| peer.logged_in).filter_map(|peer| peer.device).collect();
        online.sort_unstable();
        let chosen = cx.entropy.below(u32::try_from(online.len()).unwrap_or(u32::MAX));
        let Some(&device) = online.get(chosen as usize) else { return };
        let contact = (FIRST_CONTACT + u64::from(cx.entropy.below(CONTACTS)), 0);
        let number = self.world.counters.contact_messages;
        // A device that the server let in without knowing its keys cannot be written to.
        let _ = self.world.say(contact, device, &format!("hello {number}"), cx);
    }
}
