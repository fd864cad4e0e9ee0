//! What other threads ask of the reactor.

use super::{Reactor, Session};
use crate::command::{Command, Open};
use crate::dial::Dial;
use crate::driver::{Connection, Stage, event_of};
use crate::event::{Event, EventKind};
use crate::slab::Key;
use crate::stats::SessionCounters;
use runner_client::{Outgoing, SendFailure};
use runner_proto::close_reason::{CloseReason, Closed};
use runner_proto::counters::Counters;
use runner_proto::jid::{Jid, Server};
use runner_proto::phase::Phase;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long farewells may take when the engine shuts down.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);

/// What is told of a text for which there is no connection that is up.
pub(super) fn not_sent(session_id: &Arc<str>, number: u64, unix_ms: u64, outgoing: &Outgoing) -> Event {
    let kind = EventKind::Sent { token: outgoing.token, outcome: Err(SendFailure::NotOnline) };
    event_of(session_id, number, unix_ms, kind)
}

impl Reactor {
    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Open(open) => self.on_open(*open),
            Command::Close { session_id, connection, reason } => {
                self.on_client_command(&session_id, connection, runner_client::Command::Close(reason));
            }
            Command::Logout { session_id, connection } => {
                self.on_client_command(&session_id, connection, runner_client::Command::Logout);
            }
            Command::LinkByCode { session_id, connection, phone } => {
                let phone = Jid::new(phone.to_string(), Server::Pn);
                let command = runner_client::Command::LinkByCode { phone };
                self.on_client_command(&session_id, connection, command);
            }
            Command::Send { session_id, connection, node } => {
                self.on_client_command(&session_id, connection, runner_client::Command::Send { node });
            }
            Command::SendText { session_id, connection, outgoing } => {
                self.on_send_text(&session_id, connection, outgoing);
            }
            Command::Counters => self.publish_counters(),
            Command::Forget { session_id } => {
                if self.sessions.get(&session_id).is_some_and(|session| session.key.is_none())
                    && let Some(session) = self.sessions.remove(&session_id)
                {
                    self.rows.give_back(session.place, &session.totals);
                }
            }
            Command::Shutdown => self.on_shutdown(),
            Command::Halt => self.halted = true,
            #[cfg(test)]
            Command::Stall(until) => until.iter().for_each(drop),
            #[cfg(test)]
            Command::Panic { session_id, connection, over_input } => {
                if let Some(key) = self.find(&session_id, connection)
                    && let Some(connection) = self.connections.get_mut(key)
                {
                    if over_input {
                        connection.has_bug = true;
                    } else {
                        connection.panic_now(&mut self.bench);
                        self.settle(key);
                    }
                }
            }
        }
    }

    fn on_open(&mut self, open: Open) {
        let Open { session_id, connection: number, version, proxy, resume, pair } = open;
        let dial = Dial::new(version, resume, pair, proxy, self.bench.now + self.connect_timeout);
        let mut connection = Connection::new(Arc::clone(&session_id), number, self.bench.now, dial);
        connection.enter(Phase::Dialling, &mut self.bench);
        let timeout = connection.poll_timeout();
        let key = self.connections.insert(connection);
        self.timers.set(key.slot, timeout);
        let session = self.sessions.entry(Arc::clone(&session_id)).or_insert_with(|| Session {
            connection: number,
            place: self.rows.take(),
            key: None,
            totals: Counters::default(),
        });
        (session.connection, session.key) = (number, Some(key));
        self.shared.meters.dials_total.fetch_add(1, Ordering::Relaxed);
        if self.shutdown_until.is_some() {
            self.close_with(key, Closed::new(CloseReason::Shutdown, Phase::Dialling));
            return;
        }
        let token = self.in_flight.push_device(key, self.bench.now);
        if let Err(error) = self.store.request_device(&session_id, token) {
            self.in_flight.forget(token);
            self.close_with(key, Closed::new(CloseReason::StoreStalled, Phase::Dialling).with_detail(error));
        }
    }

    fn find(&self, session_id: &str, connection: u64) -> Option<Key> {
        self.sessions.get(session_id).filter(|session| session.connection == connection)?.key
    }

    fn on_client_command(&mut self, session_id: &str, number: u64, command: runner_client::Command) {
        let Some(key) = self.find(session_id, number) else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        match (&connection.stage, command) {
            (Stage::Live(_), command) => {
                connection.handle_command(command, &mut self.bench);
                self.settle(key);
            }
            (Stage::Dial(dial), runner_client::Command::Close(reason)) => {
                let closed = Closed::new(reason, dial.phase());
                self.close_with(key, closed);
            }
            (Stage::Dial(dial), runner_client::Command::Logout) => {
                let closed = Closed::new(CloseReason::Stopped, dial.phase());
                self.close_with(key, closed.with_detail("logout was asked for before the connection was up"));
            }
            // There is no channel yet; the node's sender sees no ack, and whoever wants a code sees no QR code either.
            (
                Stage::Dial(_),
                runner_client::Command::Send { .. }
                | runner_client::Command::SendText(_)
                | runner_client::Command::LinkByCode { .. },
            ) => {}
        }
    }

    /// A text without a connection to go over has its outcome here.
    fn on_send_text(&mut self, session_id: &Arc<str>, number: u64, outgoing: Box<Outgoing>) {
        let live = self.find(session_id, number).filter(|key| {
            let connection = self.connections.get_mut(*key);
            connection.is_some_and(|connection| matches!(connection.stage, Stage::Live(_)))
        });
        match live {
            Some(_) => {
                let command = runner_client::Command::SendText(outgoing);
                self.on_client_command(session_id, number, command);
            }
            None => self.bench.events.push(not_sent(session_id, number, self.bench.unix_ms, &outgoing)),
        }
    }

    fn on_shutdown(&mut self) {
        if self.shutdown_until.is_some() {
            return;
        }
        self.shutdown_until = Some(self.bench.now + SHUTDOWN_PATIENCE);
        let keys: Vec<Key> = self.connections.keys().collect();
        for key in keys {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            match &connection.stage {
                Stage::Dial(dial) => {
                    let closed = Closed::new(CloseReason::Shutdown, dial.phase());
                    self.close_with(key, closed);
                }
                Stage::Live(_) => {
                    let command = runner_client::Command::Close(CloseReason::Shutdown);
                    connection.handle_command(command, &mut self.bench);
                    self.settle(key);
                }
            }
        }
    }

    pub(super) fn check_shutdown(&mut self) {
        let Some(until) = self.shutdown_until else { return };
        if self.bench.now >= until {
            let keys: Vec<Key> = self.connections.keys().collect();
            for key in keys {
                let Some(phase) = self.connections.get_mut(key).map(|connection| connection.phase()) else {
                    continue;
                };
                self.close_with(key, Closed::new(CloseReason::Shutdown, phase));
            }
        }
        self.halted |= self.connections.len() == 0;
    }

    fn publish_counters(&mut self) {
        let Self { sessions, connections, shared, bench, rows, .. } = self;
        shared.publish_counters(rows.fleet, |rows| {
            rows.extend(sessions.iter().map(|(session_id, session)| {
                let connection = session.key.and_then(|key| connections.get_mut(key));
                let (phase, counters) =
                    connection.map_or((Phase::Closed, None), |c| (c.phase(), c.counters().copied()));
                SessionCounters {
                    session_id: Arc::clone(session_id),
                    place: session.place,
                    connection: session.connection,
                    phase,
                    totals: counters.unwrap_or(session.totals),
                    at: bench.now,
                }
            }));
        });
    }
}
