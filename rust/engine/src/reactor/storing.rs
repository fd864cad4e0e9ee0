//! The store's side of the reactor: answers to the clients, devices to the dials, and the pause when it lags.

use super::Reactor;
use crate::driver::{Ask, FromStore, Stage, event_of};
use crate::event::EventKind;
use crate::in_flight::Question;
use crate::slab::Key;
use crate::store_link::{client_record, store_key, store_write};
use crate::store_watch::Look;
use runner_client::{CommitFailed, Committed, LoadFailed, StoreState, StoredRecord};
use runner_proto::close_reason::{CloseReason, Closed};
use runner_proto::phase::Phase;
use runner_store::{Batch, Completion, Device, DeviceError, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A question answered.
enum Answered {
    Committed(Committed),
    Records(Vec<Option<StoredRecord>>),
    Ciphertexts(Vec<(u64, Vec<u8>, u64)>),
}

impl Reactor {
    pub(super) fn take_completions(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        let failures = self.store.drain_completions(&mut completions);
        self.store_answered = !completions.is_empty();
        for completion in completions.drain(..) {
            match completion {
                Completion::Committed { token, applied } => {
                    self.on_answer(token, Ok(Answered::Committed(Committed { attempts: applied.attempts })));
                    if applied.inbox_rows > 0 {
                        let kind = EventKind::Messages;
                        self.bench.events.push(event_of(&Arc::from(""), 0, self.bench.unix_ms, kind));
                    }
                }
                // A session that was deleted meanwhile says nothing about the store.
                Completion::Failed { token, error } if error.kind == ErrorKind::UnknownSession => {
                    self.on_answer(token, Err(CommitFailed::UnknownSession));
                }
                // Nor does a device that would take the place of another.
                Completion::Failed { token, error } if error.kind == ErrorKind::Exists => {
                    self.on_answer(token, Err(CommitFailed::Refused));
                }
                Completion::Failed { token, error } => {
                    self.on_store(false, &format!("{}: {error}", error.kind.slug()));
                    self.on_answer(token, Err(CommitFailed::Store));
                }
                Completion::Records { token, result } => {
                    let records = result.map(|found| {
                        Answered::Records(found.into_iter().map(|record| record.map(client_record)).collect())
                    });
                    self.on_answer(token, records.map_err(|_| CommitFailed::Store));
                }
                Completion::Ciphertexts { token, result } => {
                    let rows = result.map(|rows| {
                        let rows = rows.into_iter().map(|row| (row.seq, row.stanza, row.received_unix_ms));
                        Answered::Ciphertexts(rows.collect())
                    });
                    self.on_answer(token, rows.map_err(|_| CommitFailed::Store));
                }
                Completion::Recovered => self.on_store(true, "the store commits again"),
                Completion::Device { token, result } => {
                    if let Some(key) = self.in_flight.forget(token) {
                        self.on_device(key, *result);
                    }
                }
            }
        }
        // Not earlier: a client that is told of a load first may make a commit on top of one whose failure comes next.
        self.store.know_failures(failures);
        self.pass_on_refusals();
        self.completions = completions;
    }

    /// What the store did not take before what it answers now: each client sees its outcomes in order.
    fn pass_on_refusals(&mut self) {
        while let Some((key, question)) = self.in_flight.pop_refused() {
            self.tell_client(key, question, Err(CommitFailed::Store));
        }
    }

    /// The store answered for `token`.
    fn on_answer(&mut self, token: u64, outcome: Result<Answered, CommitFailed>) {
        self.pass_on_refusals();
        if let Some((key, question)) = self.in_flight.take_question(token) {
            self.tell_client(key, question, outcome);
        }
    }

    fn tell_client(&mut self, key: Key, question: Question, outcome: Result<Answered, CommitFailed>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        self.has_losses |= outcome.as_ref().is_err_and(|error| *error == CommitFailed::Store);
        let answer = match (question, outcome) {
            // The client does not wait for it; that it did not happen it must know.
            (Question::Commit { client_token: 0 }, Ok(_)) => return,
            (Question::Commit { client_token }, Ok(Answered::Committed(committed))) => {
                FromStore::Committed(client_token, Ok(committed))
            }
            (Question::Records { client_token }, Ok(Answered::Records(records))) => {
                FromStore::Records(client_token, Ok(records))
            }
            (Question::Ciphertexts, Ok(Answered::Ciphertexts(rows))) => FromStore::Ciphertexts(Ok(rows)),
            (Question::Commit { client_token }, outcome) => {
                FromStore::Committed(client_token, Err(outcome.err().unwrap_or(CommitFailed::Store)))
            }
            (Question::Records { client_token }, _) => FromStore::Records(client_token, Err(LoadFailed)),
            (Question::Ciphertexts, _) => FromStore::Ciphertexts(Err(LoadFailed)),
        };
        connection.on_store(answer, &mut self.bench);
        self.settle(key);
    }

    /// Hands a client's wishes to the store.
    pub(super) fn ask_store(&mut self, key: Key, session_id: &str) {
        let mut asks = std::mem::take(&mut self.bench.asks);
        for ask in asks.drain(..) {
            let question = match &ask {
                Ask::Commit { token, .. } => Question::Commit { client_token: *token },
                Ask::Records { token, .. } => Question::Records { client_token: *token },
                Ask::Ciphertexts { .. } => Question::Ciphertexts,
            };
            let token = self.in_flight.push_question(key, question, self.bench.now);
            if matches!(ask, Ask::Commit { token: 1.., .. }) && self.in_flight.stands_on_refused(key) {
                self.in_flight.refuse(token);
                continue;
            }
            let asked = match ask {
                Ask::Commit { writes, .. } => {
                    let writes = writes.into_iter().map(store_write).collect();
                    self.store.submit(Batch { token, session_id: session_id.to_owned(), writes })
                }
                Ask::Records { keys, .. } => {
                    let keys = keys.into_iter().map(store_key).collect();
                    self.store.request_records(session_id, token, keys)
                }
                Ask::Ciphertexts { after_seq, limit } => {
                    self.store.request_ciphertexts(session_id, token, after_seq, limit)
                }
            };
            if let Err(error) = asked {
                // A full queue is worked off; a closed one never is.
                self.store_failed |= error.kind == ErrorKind::Closed;
                self.in_flight.refuse(token);
            }
        }
        self.bench.asks = asks;
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
            if !healthy || self.store_watch.state() == StoreState::Commits {
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
        if !self.has_losses || self.store_failed || self.store_watch.state() != StoreState::Commits {
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

    /// Looks how the store is, and tells the clients, and whoever listens, when that has changed.
    pub(super) fn check_store(&mut self) {
        let now = self.bench.now;
        let before = self.store_watch.state();
        let oldest = self.in_flight.oldest();
        if oldest.is_none() && before == StoreState::Commits {
            return;
        }
        let look = Look {
            now,
            oldest,
            has_answered: self.store_answered,
            pressure: self.store.pressure(),
            unopened_bytes: self.bench.unopened_bytes,
        };
        let Some(state) = self.store_watch.look(look) else { return };
        self.shared.meters.store_stalled.store(state != StoreState::Commits, Ordering::Relaxed);
        match state {
            StoreState::Commits if self.store_failed => {}
            StoreState::Commits => self.store_event(true, "the store has caught up"),
            StoreState::Locked if before == StoreState::LockedAndFull => {}
            StoreState::Locked => self.store_event(
                false,
                "another process has the database locked (`fuser` on its file names it): what needs a commit waits for \
                 that, and nothing else does",
            ),
            StoreState::LockedAndFull => self.store_event(
                false,
                "another process has the database locked (`fuser` on its file names it), and so much waits for that by \
                 now that no session is read",
            ),
            StoreState::Hangs => {
                let waits_s = oldest.map_or(0.0, |oldest| (now - oldest).as_secs_f64());
                self.store_event(false, &format!("lagging: the oldest write waits for {waits_s:.1} s"));
            }
        }
        if state.is_reading() {
            self.ready.extend(self.held.drain(..));
        }
        let keys: Vec<Key> = self.connections.keys().collect();
        for key in keys {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.handle_store(state, &mut self.bench);
                self.settle(key);
            }
        }
    }
}
