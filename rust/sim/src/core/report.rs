//! What the control port shows.

use serde_json::{Map, Value, json};

use super::command::Command;
use super::hub::Hub;
use super::world::Cx;

/// Log entries in one answer; `since` fetches the rest.
const PAGE: usize = 20_000;

impl Hub {
    /// The answer to a command that only reads.
    pub(super) fn report(&self, command: &Command, cx: &Cx<'_>) -> Value {
        match command {
            Command::Stats => self.stats(cx),
            Command::Sessions => self.sorted(|peer| Some(peer.row())),
            Command::Devices => self.devices(),
            Command::Pings { user } => self.sorted(|peer| {
                let wanted = user.is_none() || peer.username() == *user;
                wanted.then(
                    || json!({ "user": peer.username().map(|user| user.to_string()), "pings": peer.pings }),
                )
            }),
            Command::Owed { user } => self.sorted(|peer| {
                let wanted = peer.device.is_some() && (user.is_none() || peer.username() == *user);
                let oldest =
                    peer.owed.oldest().map(|debt| cx.now.saturating_duration_since(debt.since).as_secs_f64());
                let ids: Vec<_> = peer
                    .owed
                    .iter()
                    .take(100)
                    .map(|debt| json!({ "class": debt.class, "id": debt.id }))
                    .collect();
                wanted.then(|| {
                    json!({
                        "sid": peer.id,
                        "user": peer.username().map(|user| user.to_string()),
                        "count": peer.owed.len(),
                        "oldestSeconds": oldest,
                        "stanzas": ids,
                    })
                })
            }),
            Command::Events { since } => self
                .world
                .events
                .since(*since)
                .take(PAGE)
                .filter_map(|(seq, event)| numbered(seq, event))
                .collect(),
            Command::Sent { since, user, tag } => {
                let user = user.map(|user| user.to_string());
                self.world
                    .sent
                    .since(*since)
                    .filter(|(_, sent)| user.as_deref().is_none_or(|user| sent.user == user))
                    .filter(|(_, sent)| tag.as_deref().is_none_or(|tag| sent.tag == tag))
                    .take(PAGE)
                    .filter_map(|(seq, sent)| numbered(seq, sent))
                    .collect()
            }
            Command::Heard { since, user } => {
                let user = user.map(|user| user.to_string());
                self.world
                    .heard
                    .since(*since)
                    .filter(|(_, heard)| user.as_deref().is_none_or(|user| heard.user == user))
                    .take(PAGE)
                    .filter_map(|(seq, heard)| numbered(seq, heard))
                    .collect()
            }
            _ => Value::Null,
        }
    }

    fn stats(&self, cx: &Cx<'_>) -> Value {
        let mut stats = match serde_json::to_value(&self.world.counters) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let online = self.peers.values().filter(|peer| peer.logged_in).count();
        stats.insert("now".to_owned(), json!(cx.unix_ms));
        stats.insert("open".to_owned(), json!(self.peers.len()));
        stats.insert("online".to_owned(), json!(online));
        Value::Object(stats)
    }

    fn devices(&self) -> Value {
        let mut accounts: Vec<_> = self.world.accounts.iter().collect();
        accounts.sort_unstable_by_key(|(device, _)| **device);
        accounts
            .into_iter()
            .map(|((username, device), account)| {
                json!({
                    "user": username.to_string(),
                    "device": device,
                    "online": account.live.is_some(),
                    "unlinked": account.unlinked,
                    "logins": account.logins,
                    "offline": account.offline.len(),
                    "name": account.name,
                })
            })
            .collect()
    }

    /// One row for each connection, in the order of their numbers.
    fn sorted(&self, row: impl Fn(&super::peer::Peer) -> Option<Value>) -> Value {
        let mut peers: Vec<_> = self.peers.values().collect();
        peers.sort_unstable_by_key(|peer| peer.id);
        peers.into_iter().filter_map(row).collect()
    }
}

fn numbered(seq: u64, entry: &impl serde::Serialize) -> Option<Value> {
    let mut value = serde_json::to_value(entry).ok()?;
    value.as_object_mut()?.insert("seq".to_owned(), json!(seq));
    Some(value)
}
