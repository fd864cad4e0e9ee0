//! What the client does with messages: opens them in their order, commits what came of it, and answers.

use runner_proto::{
    entropy::Entropy,
    node::{self, Limits, NodeRef},
    session::Io,
};
use runner_signal::PreKey;

use super::{
    LoadFor, Loaded, Unasked, Waiting,
    answer::{self, KEYS_FROM_ATTEMPT, MAX_ATTEMPTS, ReceiptKind},
    between,
    failure::Failure,
    identity,
    open::{self, Opened, Outcome, OwnKeys},
};
use crate::{
    Client, Committed, Content, Cx, Effect, Event, LoadFailed, StoredRecord, Write,
    client::io,
    inbox::{Answer, Counted, Owed},
    record::{RecordBytes, RecordKey, RecordKind, Records},
    stanza,
};

/// Where the ids of the pre-keys in retry receipts are drawn from: apart from those that are uploaded, whose ids count up
/// from the middle of their three bytes. So few that those that nobody uses do not pile up in the store: one of them gives
/// way now and then, which of those that somebody is about to use happens to hardly any.
const RETRY_IDS: std::ops::Range<u32> = 0x0080_0000..0x0081_0000;

/// Messages between two sweeps of the records that no message in flight uses any more.
const SWEEP_EVERY: u64 = 64;

impl Client {
    /// A message came: it waits for its turn.
    pub(crate) fn queue_message(&mut self, message: NodeRef<'_>, io: &Io<'_>) {
        self.note_backlog(message, io.now);
        self.receiver.push(message, io.unix_ms, io.now);
        self.count_unanswered();
    }

    /// The store's answer to [`Effect::Load`].
    pub fn on_loaded(
        &mut self,
        token: u32,
        outcome: Result<Vec<Option<StoredRecord>>, LoadFailed>,
        cx: &mut Cx<'_>,
    ) {
        // After the end there is none.
        let Some(Loaded { purpose, keys, is_current }) = self.receiver.take_load(token) else { return };
        let records = match (outcome, purpose) {
            (Ok(records), LoadFor::PreKeys) => return self.on_pre_keys_loaded(&keys, records, cx),
            (Ok(records), LoadFor::Upkeep) => return self.on_upkeep_loaded(&keys, records, cx),
            (Err(LoadFailed), LoadFor::PreKeys) => return self.pre_keys.give_up(),
            (Err(LoadFailed), LoadFor::Upkeep) => {
                self.pre_keys.give_up();
                return self.upkeep.give_up();
            }
            (Err(LoadFailed), LoadFor::Sends) => {
                self.receiver.forget_records();
                self.open_messages(cx);
                return self.give_up_sends(cx);
            }
            (Err(LoadFailed), LoadFor::Messages) => {
                for arrival in self.receiver.give_up() {
                    self.inbox.lose(arrival);
                }
                self.count_unanswered();
                return self.advance_sends(cx);
            }
            (Ok(records), LoadFor::Messages | LoadFor::Sends) => records,
        };
        for (key, record) in keys.iter().zip(records).filter(|_| is_current) {
            let is_there = record.is_some();
            let record = record.and_then(|stored| super::own_form(key, stored));
            if is_there && record.is_none() {
                self.count_unreadable(key.kind, cx.effects);
            }
            self.receiver.records.loaded(key, record);
        }
        self.open_messages(cx);
        self.advance_sends(cx);
        self.tell(cx);
    }

    /// An imported record cannot be read. What was made with it is answered as if there were none, and asked for again;
    /// that many contacts need that at once is told, once a kind.
    fn count_unreadable(&mut self, kind: RecordKind, effects: &mut Vec<Effect>) {
        self.session.counters_mut().records_unreadable += 1;
        if self.receiver.note_unreadable(kind) {
            effects.push(Effect::Event(Event::RecordUnreadable { kind: kind.slug() }));
        }
    }

    /// The store's answer to [`Effect::LoadCiphertexts`]: place in the inbox, stanza, and when it came.
    pub fn on_ciphertexts(&mut self, outcome: Result<Vec<(u64, Vec<u8>, u64)>, LoadFailed>, cx: &mut Cx<'_>) {
        if self.session.closed().is_some() {
            return;
        }
        // What cannot be read now is there on the next connection.
        self.receiver.on_past(outcome.unwrap_or_default());
        self.open_messages(cx);
        self.tell(cx);
    }

    /// Opens what is ready, and asks for what the others need.
    pub(crate) fn open_messages(&mut self, cx: &mut Cx<'_>) {
        if self.session.closed().is_some() {
            return;
        }
        loop {
            if let Some(after_seq) = self.receiver.poll_past() {
                cx.effects.push(Effect::LoadCiphertexts { after_seq, limit: super::CIPHERTEXTS_AT_ONCE });
            }
            let Some(waiting) = self.receiver.pop() else { break };
            if let Some(waiting) = self.open_message(waiting, cx) {
                self.receiver.put_back(waiting);
                break;
            }
        }
        self.ask_ahead(cx);
        self.count_unanswered();
    }

    /// Opens one message, or gives it back when records of it are missing.
    fn open_message(&mut self, waiting: Waiting, cx: &mut Cx<'_>) -> Option<Waiting> {
        let Cx { scratch, effects, .. } = cx;
        let Ok(message) = node::decode(&waiting.stanza, scratch.scratch(), &Limits::default()) else {
            // It was decoded when it came; only a damaged row of the store gets here, and stays there.
            return None;
        };
        let number = waiting.number;
        let wanted = needed(message, &mut self.receiver.records, &self.keys, number);
        if !wanted.is_empty() {
            self.ask_for(wanted, number, effects);
            return Some(waiting);
        }
        if is_notification(message) {
            self.end_sessions(message, &waiting, effects);
            return None;
        }
        let opened = open::open(message, &mut self.receiver.records, &self.keys, number);
        self.keep(message, &waiting, opened, effects);
        None
    }

    /// The server says that a contact was linked anew: it waits for its turn.
    pub(crate) fn queue_identity_change(&mut self, notification: NodeRef<'_>, io: &Io<'_>) {
        self.receiver.push(notification, io.unix_ms, io.now);
        self.count_unanswered();
    }

    /// Archives what that contact cannot read any more.
    fn end_sessions(&mut self, notification: NodeRef<'_>, waiting: &Waiting, effects: &mut Vec<Effect>) {
        let archived = identity::archive(notification, &mut self.receiver.records, waiting.number);
        if archived.is_empty() {
            return;
        }
        let jid = notification.attr("from").map(|from| from.to_string()).unwrap_or_default();
        effects.push(Effect::Event(Event::IdentityChanged { jid }));
        let writes = archived.into_iter().map(|(key, value)| Write::PutRecord { key, value }).collect();
        let answer = Answer::Send { stanzas: Vec::new(), counted: Counted::Nothing };
        let token = self.inbox.push(answer, Owed { arrival: waiting.arrival, number: waiting.number });
        effects.push(Effect::Commit { token, writes });
    }

    /// Commits what came of a message; its answer follows when that is durable.
    fn keep(&mut self, message: NodeRef<'_>, waiting: &Waiting, opened: Opened, effects: &mut Vec<Effect>) {
        let Opened { mut outcome, changes, has_new_identity } = opened;
        if has_new_identity {
            let jid = message.attr("participant").or_else(|| message.attr("from"));
            let jid = jid.map(|jid| jid.to_string()).unwrap_or_default();
            effects.push(Effect::Event(Event::IdentityChanged { jid }));
        }
        let mut writes: Vec<Write> = changes.into_iter().map(write_of).collect();
        let Some(names) = stanza::names(message) else { return };
        let received_unix_ms = waiting.received_unix_ms;
        let kind = self.receipt_kind(message);
        if let Outcome::Content { content, was_encrypted: true } = &outcome
            && kind == ReceiptKind::Peer
        {
            writes.extend(between::kept(&names.message_id, content).into_iter().map(write_of));
            outcome = Outcome::Internal;
        }
        let mut row = |stanza, content| {
            let stanza::Names { chat, sender, message_id } = names.clone();
            writes.push(Write::Inbox { chat, sender, message_id, stanza, content, received_unix_ms });
        };
        let receipt = || answer::receipt(message, kind);
        let received = |stanza| Answer::Send { stanzas: vec![stanza], counted: Counted::Received };
        let answer = match outcome {
            Outcome::Content { content, was_encrypted: true } => {
                row(stanza::without_ciphertexts(message), Content::Plain(content));
                received(receipt())
            }
            Outcome::Content { content, was_encrypted: false } => {
                row(stanza::without_ciphertexts(message), Content::Plain(content));
                received(stanza::message_ack(message, &self.own_jid()))
            }
            Outcome::Internal => {
                row(Vec::new(), Content::Nothing);
                received(receipt())
            }
            Outcome::Failed(failure) => {
                let asks = if failure.retry_reason().is_some() { MAX_ATTEMPTS } else { 0 };
                row(waiting.stanza.clone(), Content::Failed { why: failure.slug(), asks });
                Answer::Failed { message: waiting.stanza.clone(), failure }
            }
        };
        let owed = Owed { arrival: waiting.arrival, number: waiting.number };
        let token = self.inbox.push(answer, owed);
        effects.push(Effect::Commit { token, writes });
    }

    /// A message without content is durable: answers it, and asks its sender for it again, within bounds.
    pub(crate) fn answer_failed(
        &mut self,
        stanza: &[u8],
        failure: Failure,
        owed: Owed,
        committed: Committed,
        cx: &mut Cx<'_>,
    ) {
        let attempt = committed.attempts;
        let mut asking = None;
        let mut stanzas = Vec::new();
        {
            let Cx { scratch, entropy, now, .. } = cx;
            let Ok(message) = node::decode(stanza, scratch.scratch(), &Limits::default()) else { return };
            if attempt == 0 {
                // It was stored with its content before: the sender, or the server, did not hear of it.
                stanzas.push(answer::receipt(message, self.receipt_kind(message)));
            } else {
                if failure.retry_reason().is_some() && attempt <= MAX_ATTEMPTS {
                    // In turn: those that wait are older.
                    if self.receiver.poll_timeout().is_none() && self.receiver.may_retry(*now) {
                        asking = Some(retry(message, failure, attempt, &self.keys, &mut **entropy));
                    } else {
                        let stanza = stanza::without_ciphertexts(message);
                        self.receiver.ask_later(Unasked { stanza, failure, attempt });
                    }
                }
                if owed.arrival.is_some() {
                    stanzas.push(answer::failure_ack(message, &self.own_jid(), failure));
                }
            }
        }
        let counted = if attempt == 0 { Counted::Received } else { Counted::Undecrypted };
        self.answer_with(asking, stanzas, counted, owed, cx);
    }

    /// Asks for what could not be asked for at once.
    pub(crate) fn ask_unasked(&mut self, cx: &mut Cx<'_>) {
        while let Some(Unasked { stanza, failure, attempt }) = self.receiver.pop_askable(cx.now) {
            let Cx { scratch, entropy, .. } = cx;
            let Ok(message) = node::decode(&stanza, scratch.scratch(), &Limits::default()) else { continue };
            let asking = retry(message, failure, attempt, &self.keys, &mut **entropy);
            let owed = Owed { arrival: None, number: 0 };
            self.answer_with(Some(asking), Vec::new(), Counted::Nothing, owed, cx);
        }
    }

    /// Answers, with a retry receipt in front if there is one: once the key that goes out is ours over a crash.
    fn answer_with(
        &mut self,
        asking: Option<(Vec<u8>, Option<PreKey>)>,
        mut stanzas: Vec<Vec<u8>>,
        counted: Counted,
        owed: Owed,
        cx: &mut Cx<'_>,
    ) {
        let Some((receipt, pre_key)) = asking else { return self.send_answer(&stanzas, counted, owed, cx) };
        stanzas.insert(0, receipt);
        let Some(pre_key) = pre_key else { return self.send_answer(&stanzas, counted, owed, cx) };
        let key = RecordKey::new(RecordKind::PreKey, pre_key.id.to_string());
        let writes = vec![write_of((key, Some(pre_key.to_record().into_bytes().into())))];
        let token = self.inbox.push(Answer::Send { stanzas, counted }, owed);
        cx.effects.push(Effect::Commit { token, writes });
    }

    /// Loads what messages behind the first will need, so that they do not wait one after the other.
    fn ask_ahead(&mut self, cx: &mut Cx<'_>) {
        let Cx { scratch, effects, .. } = cx;
        while let Some(waiting) = self.receiver.pop_unasked() {
            let number = waiting.number;
            let stanza = waiting.stanza.clone();
            let Ok(message) = node::decode(&stanza, scratch.scratch(), &Limits::default()) else { continue };
            let wanted = needed(message, &mut self.receiver.records, &self.keys, number);
            self.ask_for(wanted, number, effects);
        }
    }

    fn ask_for(&mut self, wanted: Vec<RecordKey>, number: u64, effects: &mut Vec<Effect>) {
        let records = &mut self.receiver.records;
        let keys = wanted.into_iter().filter(|key| records.want(key, number)).collect();
        if let Some((token, keys)) = self.receiver.load(LoadFor::Messages, keys) {
            effects.push(Effect::Load { token, keys });
        }
    }

    fn receipt_kind(&self, message: NodeRef<'_>) -> ReceiptKind {
        let from =
            message.attr("participant").or_else(|| message.attr("from")).and_then(|from| from.to_jid());
        if from.is_some_and(|from| self.is_own(&from)) {
            let is_peer = message.attr("category").is_some_and(|category| category == *"peer");
            if is_peer { ReceiptKind::Peer } else { ReceiptKind::Sender }
        } else if self.is_shown_online {
            ReceiptKind::Delivered
        } else {
            ReceiptKind::Inactive
        }
    }

    pub(crate) fn send_answer(&mut self, stanzas: &[Vec<u8>], counted: Counted, owed: Owed, cx: &mut Cx<'_>) {
        for stanza in stanzas {
            self.session.send_encoded(&mut io(cx), stanza);
        }
        let counters = self.session.counters_mut();
        match counted {
            Counted::Received => counters.messages_received += 1,
            Counted::Undecrypted => counters.messages_undecrypted += 1,
            Counted::Undecodable => counters.messages_undecodable += 1,
            Counted::Nothing => {}
        }
        counters.answers_sent += u64::from(owed.arrival.is_some() && !stanzas.is_empty());
        // A sweep now and then; nothing of it must be early or late.
        if owed.number.is_multiple_of(SWEEP_EVERY) {
            let before = self.sender.as_ref().and_then(|sender| sender.oldest_number());
            let through = before.map_or(owed.number, |before| owed.number.min(before.saturating_sub(1)));
            self.receiver.records.release(through);
        }
    }
}

/// The records that what waits needs and that are not here.
fn needed(stanza: NodeRef<'_>, records: &mut Records, keys: &OwnKeys, number: u64) -> Vec<RecordKey> {
    if is_notification(stanza) {
        identity::wanted(stanza, records, number)
    } else {
        open::wanted(stanza, records, keys, number)
    }
}

fn is_notification(stanza: NodeRef<'_>) -> bool {
    stanza.tag() == "notification"
}

/// A retry receipt, and the new key in it.
fn retry(
    message: NodeRef<'_>,
    failure: Failure,
    attempt: u32,
    keys: &OwnKeys,
    entropy: &mut dyn Entropy,
) -> (Vec<u8>, Option<PreKey>) {
    let pre_key = (attempt >= KEYS_FROM_ATTEMPT).then(|| {
        let id = RETRY_IDS.start + entropy.below(RETRY_IDS.end - RETRY_IDS.start);
        PreKey::generate(id, &mut |bytes| entropy.fill(bytes))
    });
    (answer::retry_receipt(message, failure, attempt, keys, pre_key.as_ref()), pre_key)
}

fn write_of((key, record): (RecordKey, Option<RecordBytes>)) -> Write {
    match record {
        Some(value) => Write::PutRecord { key, value },
        None => Write::RemoveRecord(key),
    }
}
