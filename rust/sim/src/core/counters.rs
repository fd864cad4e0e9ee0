//! What the server has counted since it started or was reset.

use std::collections::BTreeMap;

use serde::Serialize;

/// Distinct keys kept per map; a client that invents tags or namespaces cannot grow a map without bound.
const MAX_KEYS: usize = 256;

/// A count per name.
#[derive(Debug, Default, Clone, Serialize)]
#[serde(transparent)]
pub struct Tally(BTreeMap<String, u64>);

impl Tally {
    /// Adds one to `key`.
    pub fn bump(&mut self, key: &str) {
        if let Some(count) = self.0.get_mut(key) {
            *count += 1;
        } else if self.0.len() < MAX_KEYS {
            self.0.insert(key.to_owned(), 1);
        }
    }

    /// The count of `key`.
    pub fn count(&self, key: &str) -> u64 {
        self.0.get(key).copied().unwrap_or(0)
    }
}

/// Totals, in the words of the reference server; times are Unix milliseconds, zero for never.
#[derive(Debug, Default, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are the documentation; docs/simulator.md has a table")]
pub struct Counters {
    pub since: u64,
    pub connections: u64,
    pub refused: u64,
    pub handshakes: u64,
    /// Handshakes by pattern.
    pub handshakes_xx: u64,
    pub handshakes_ik: u64,
    pub handshakes_fallback: u64,
    pub tls_handshakes: u64,
    pub tls_resumed: u64,
    pub logins: u64,
    pub ready: u64,
    pub registrations: u64,
    pub paired: u64,
    pub login_failures: u64,
    /// Logins refused with 405.
    pub outdated: u64,
    /// Logins of one device that ended an older connection of it.
    pub replaced: u64,
    /// Moments at which one device had two live, logged-in connections. Zero for a client that behaves.
    pub duplicates: u64,
    /// Logins on a connection whose first byte came before the device's earlier connection had ended.
    pub overlaps: u64,
    pub logouts: u64,
    pub closed_by_client: u64,
    pub closed_by_server: u64,
    pub protocol_errors: u64,
    pub pings: u64,
    pub ws_pings: u64,
    pub frames_in: u64,
    pub frames_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub nodes_pushed: u64,
    pub acks: u64,
    pub first_ack_at: u64,
    pub last_ack_at: u64,
    pub last_receipt_at: u64,
    /// Iqs that a fault left without an answer.
    pub iqs_muted: u64,
    /// Stanzas that expected an answer / got it / outlived the answer rule.
    pub owed: u64,
    pub answered: u64,
    pub unanswered_kills: u64,
    /// Answers to a stanza that was not owed: answered twice, or never sent.
    pub unexpected_answers: u64,
    /// Stanzas waiting for devices that are not connected, delivered from there, dropped because it was full.
    pub queued_offline: u64,
    pub delivered_offline: u64,
    pub dropped_offline: u64,
    /// Stanzas handed from one client to another device.
    pub relayed_messages: u64,
    pub relayed_receipts: u64,
    /// Messages to groups that were refused, and those whose sender knows other devices than there are.
    pub refused_messages: u64,
    pub stale_phashes: u64,
    /// Messages looked at while `spoilEvery` is set, and those that it broke.
    pub messages_seen: u64,
    /// Backlogs of which some was given only because the client did nothing for a while.
    pub backlogs_waited: u64,
    pub messages_spoiled: u64,
    /// What contacts wrote, heard, and were told: receipts, and that a message could not be read.
    pub contact_messages: u64,
    pub contact_heard: u64,
    pub contact_receipts: u64,
    pub contact_retries: u64,
    pub by_tag: Tally,
    pub iq_by_xmlns: Tally,
    pub ack_by_class: Tally,
}
