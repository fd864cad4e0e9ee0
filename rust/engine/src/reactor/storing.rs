//! The store's side of the reactor: answers to the clients, devices to the dials, and the pause when it lags.

use super::Reactor;
use crate::driver::{Stage, event_of};
use crate::event::EventKind;
use crate::slab::Key;
use runner_client::CommitFailed;
use runner_proto::close_reason::{CloseReason, Closed};
use runner_proto::phase::Phase;
use runner_store::{Completion, Device, DeviceError, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The store lags when something waits for it longer than this; reading pauses then. Fifty times a slow disk's fsync.
const STORE_LAGS_AFTER: Duration = Duration::from_secs(1);

impl Reactor {
    pub(super) fn take_completions(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        self.store.drain_completions(&mut completions);
        for completion in completions.drain(..) {
            match completion {
                Completion::Committed { token, inbox_rows } => {
                    self.on_commits_until(token, Ok(()));
                    if inbox_rows > 0 {
                        let kind = EventKind::Messages;
                        self.bench.events.push(event_of(&Arc::from(""), 0, self.bench.unix_ms, kind));
                    }
                }
                // A session that was deleted meanwhile says nothing about the store.
                Completion::Failed { token, error } if error.kind == ErrorKind::UnknownSession => {
                    self.on_commits_until(token, Err(CommitFailed::UnknownSession));
                }
                // Nor does a device that would take the place of another.
                Completion::Failed { token, error } if error.kind == ErrorKind::Exists => {
                    self.on_commits_until(token, Err(CommitFailed::Refused));
                }
                Completion::Failed { token, error } => {
                    self.on_store(false, &format!("{}: {error}", error.kind.slug()));
                    self.on_commits_until(token, Err(CommitFailed::Store));
                }
                Completion::Recovered => self.on_store(true, "the store commits again"),
                Completion::Device { token, result } => {
                    if let Some(key) = self.in_flight.forget(token) {
                        self.on_device(key, *result);
                    }
                }
            }
        }
        while let Some((key, token)) = self.in_flight.pop_failed() {
            self.on_committed(key, token, Err(CommitFailed::Store));
        }
        self.completions = completions;
    }

    /// The store answered for `token`; those that it refused before it come first, so that each client sees its
    /// outcomes in order.
    fn on_commits_until(&mut self, token: u64, outcome: Result<(), CommitFailed>) {
        while let Some((key, client_token)) = self.in_flight.pop_failed() {
            self.on_committed(key, client_token, Err(CommitFailed::Store));
        }
        if let Some((key, client_token)) = self.in_flight.take_commit(token) {
            self.on_committed(key, client_token, outcome);
        }
    }

    fn on_committed(&mut self, key: Key, token: u64, outcome: Result<(), CommitFailed>) {
        // 0: the client does not wait for it.
        if token != 0
            && let Some(connection) = self.connections.get_mut(key)
        {
            self.has_losses |= outcome == Err(CommitFailed::Store);
            connection.on_committed(token, outcome, &mut self.bench);
            self.settle(key);
        }
    }

    fn on_device(&mut self, key: Key, result: Result<Device, DeviceError>) {
        let (reason, error) = match result {
            Ok(device) => {
                self.tell_linked(key);
                return self.with_dial(key, |dial, _| dial.on_device(device));
            }
            Err(error @ DeviceError::NotLinked) => {
                return self.with_dial(key, |dial, _| dial.on_no_device(&error));
            }
            Err(error @ DeviceError::Missing) => (CloseReason::DeviceMissing, error),
            Err(error @ DeviceError::Quarantined(_)) => (CloseReason::DeviceQuarantined, error),
            Err(error @ DeviceError::Store(_)) => (CloseReason::StoreStalled, error),
        };
        self.close_with(key, Closed::new(reason, Phase::Dialling).with_detail(error));
    }

    /// Whoever wanted a phone to link this session does not know that one has: its device is here, and logs in.
    fn tell_linked(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && let Stage::Dial(dial) = &connection.stage
            && dial.pair
        {
            let (session_id, number) = (&connection.session_id, connection.number);
            self.bench.events.push(event_of(session_id, number, self.bench.unix_ms, EventKind::Linked));
        }
    }

    /// What the store's last answer says of it. It is healthy when it neither fails nor lags; either is told when it begins.
    fn on_store(&mut self, healthy: bool, detail: &str) {
        if self.store_failed == healthy {
            self.store_failed = !healthy;
            if !healthy || !self.store_stalled {
                self.store_event(healthy, detail);
            }
        }
    }

    fn store_event(&mut self, healthy: bool, detail: &str) {
        let kind = EventKind::Store { healthy, detail: detail.into() };
        self.bench.events.push(event_of(&Arc::from(""), 0, self.bench.unix_ms, kind));
    }

    /// Closes, once the store is well, what lost messages while it was not: the server gives them again on the next
    /// connection only, and until then that session is deaf. Not earlier, when the next one would lose them again.
    pub(super) fn mend_losses(&mut self) {
        if !self.has_losses || self.store_failed || self.store_stalled {
            return;
        }
        self.has_losses = false;
        let keys: Vec<Key> = self.connections.keys().collect();
        for key in keys {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.handle_store_recovered(&mut self.bench);
                self.settle(key);
            }
        }
    }

    /// Pauses all reading while the store lags, and tells the clients.
    pub(super) fn check_store(&mut self) {
        let age = self.in_flight.oldest_age(self.bench.now);
        let stalled = age >= STORE_LAGS_AFTER;
        if stalled == self.store_stalled {
            return;
        }
        self.store_stalled = stalled;
        self.shared.meters.store_stalled.store(stalled, Ordering::Relaxed);
        if stalled {
            self.store_event(
                false,
                &format!("lagging: the oldest write waits for {:.1} s", age.as_secs_f64()),
            );
        } else {
            if !self.store_failed {
                self.store_event(true, "the store has caught up");
            }
            self.ready.extend(self.held.drain(..));
        }
        let keys: Vec<Key> = self.connections.keys().collect();
        for key in keys {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.handle_store_stalled(stalled, &mut self.bench);
                self.settle(key);
            }
        }
    }
}
