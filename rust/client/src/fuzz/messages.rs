//! Body of the fuzz target `message_ops`: any bytes are a sequence of messages, whole and damaged, and of what the store
//! and the process do meanwhile.
//!
//! What must hold: nothing is delivered twice or otherwise than it was written, what is receipted is durable, and a damaged
//! copy never costs the whole one.

use std::{collections::HashMap, sync::Arc};

use runner_proto::{
    entropy::Entropy as _,
    node::{Node, encode},
    noise::Transport,
    session::Buffers,
    time::Instant,
};
use runner_signal::{Bundle, Identity, KeyPair, session};

use super::{START_UNIX_MS, Steps, TO_CLIENT, TO_SERVER, device, sealed};
use crate::{
    Client, Config, Cx, Effect,
    memory_store::{Answer, MemoryStore, Question},
};

/// Contacts that write.
const CONTACTS: u8 = 3;

/// One contact: its identity, its session record, and the user part of its address.
struct Contact {
    identity: Identity,
    record: Vec<u8>,
    user: u64,
}

struct Run {
    client: Client,
    server: Transport,
    store: MemoryStore,
    contacts: Vec<Contact>,
    said: Vec<Node>,
    entropy: Steps,
    scratch: Buffers,
    out: Vec<u8>,
    effects: Vec<Effect>,
}

/// Any bytes: the client survives them, and keeps its promises.
pub fn message_ops(data: &[u8]) {
    let mut run = Run::new();
    let mut data = data.iter().copied();
    while let (Some(op), Some(argument)) = (data.next(), data.next()) {
        match op % 12 {
            0..=2 => run.say(argument),
            3..=5 => run.give(argument, None),
            6 => run.give(argument, Some((data.next().unwrap_or(0), data.next().unwrap_or(1)))),
            7..=9 => {
                let answer = run.store.answer();
                run.tell(answer);
            }
            10 => {
                let answers =
                    if argument.is_multiple_of(2) { run.store.fail() } else { run.store.fail_commits() };
                run.tell(answers);
                let refused = run.store.refuse_commits();
                run.tell(refused);
            }
            _ => run.reconnect(argument),
        }
        run.check();
    }
}

impl Run {
    fn new() -> Self {
        let mut entropy = Steps(0);
        let keys = device().keys;
        let own = KeyPair::from_secret(*keys.identity_secret.expose());
        let signed = KeyPair::from_secret(*keys.signed_pre_key_secret.expose());
        let bundle = Bundle {
            registration_id: keys.registration_id,
            identity: *own.public(),
            signed_pre_key_id: keys.signed_pre_key_id,
            signed_pre_key: *signed.public(),
            signature: keys.signed_pre_key_signature,
            pre_key: None,
        };
        let contacts = (0..CONTACTS).map(|n| {
            let identity = Identity::new(KeyPair::from_secret([70 + n; 32]), u32::from(n) + 1);
            let started = session::start(&identity, None, &bundle, &mut |bytes| entropy.fill(bytes));
            let record = started.expect("a good bundle").into_bytes();
            Contact { identity, record, user: 15_550_002_220 + u64::from(n) }
        });
        let contacts = contacts.collect();
        Self {
            client: connected(&mut entropy),
            server: Transport::new(TO_CLIENT, TO_SERVER),
            store: MemoryStore::default(),
            contacts,
            said: Vec::new(),
            entropy,
            scratch: Buffers::new(),
            out: Vec::new(),
            effects: Vec::new(),
        }
    }

    fn call(&mut self, call: impl FnOnce(&mut Client, &mut Cx<'_>)) {
        let mut cx = Cx {
            now: Instant::from_micros(1),
            unix_ms: START_UNIX_MS,
            entropy: &mut self.entropy,
            out: &mut self.out,
            scratch: &mut self.scratch,
            effects: &mut self.effects,
        };
        call(&mut self.client, &mut cx);
    }

    fn say(&mut self, argument: u8) {
        let number = self.said.len();
        let contact = &mut self.contacts[usize::from(argument % CONTACTS)];
        let text = text_of(number);
        let padded = [&[0x0a, text.len() as u8], text.as_bytes(), &[2, 2]].concat();
        let sealed = session::encrypt(&contact.identity, Some(&contact.record), &padded, &mut |bytes| {
            self.entropy.fill(bytes);
        });
        let sealed = sealed.expect("a session");
        contact.record = sealed.record.into_bytes();
        let enc = Node::new("enc").attr("v", "2").attr("type", "pkmsg").bytes(sealed.message.bytes);
        let from = format!("{}@s.whatsapp.net", contact.user).parse::<runner_proto::jid::Jid>();
        let message = Node::new("message").attr("id", format!("M{number}"));
        self.said.push(message.attr_jid("from", from.expect("a jid")).child(enc));
    }

    fn give(&mut self, argument: u8, damage: Option<(u8, u8)>) {
        if self.said.is_empty() {
            return;
        }
        let mut plain = Vec::new();
        encode(&self.said[usize::from(argument) % self.said.len()], &mut plain);
        if let Some((at, with)) = damage {
            // From behind: there the ciphertext is.
            let at = plain.len() - 1 - usize::from(at) % plain.len();
            plain[at] ^= with;
        }
        let mut bytes = sealed(&mut self.server, &plain);
        self.call(|client, cx| client.handle_input(&mut bytes, cx));
    }

    fn tell(&mut self, answers: impl IntoIterator<Item = Answer>) {
        for answer in answers {
            self.call(|client, cx| answer.tell(client, cx));
        }
        self.ask();
    }

    /// The process is killed: some of what the store was asked for has happened.
    fn reconnect(&mut self, argument: u8) {
        for _ in 0..usize::from(argument) % (self.store.open.len() + 1) {
            drop(self.store.answer());
        }
        self.store.open.clear();
        self.client = connected(&mut self.entropy);
        self.server = Transport::new(TO_CLIENT, TO_SERVER);
    }

    fn ask(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Commit { token, writes } => {
                    self.store.open.push_back(Question::Commit(token, writes));
                }
                Effect::Load { token, keys } => self.store.open.push_back(Question::Load(token, keys)),
                Effect::LoadCiphertexts { .. } | Effect::Event(_) => {}
            }
        }
    }

    fn check(&mut self) {
        self.ask();
        self.out.clear();
        let mut times = HashMap::new();
        for name in &self.store.delivered {
            *times.entry(name).or_insert(0) += 1;
            let content = self.store.inbox.get(name).and_then(|row| row.as_ref().ok()).expect("a content");
            // A damaged id or sender makes another message of it; its content is still one that was written.
            let is_written = (0..self.said.len()).any(|n| content[2..] == *text_of(n).as_bytes());
            assert!(is_written, "nobody wrote {content:?}");
        }
        assert!(times.values().all(|&times| times == 1), "delivered twice");
        let counters = self.client.counters();
        assert!(counters.answers_sent <= counters.stanzas_received + counters.stanzas_malformed);
    }
}

fn text_of(number: usize) -> String {
    format!("text {number}")
}

fn connected(entropy: &mut Steps) -> Client {
    let (mut scratch, mut out, mut effects) = (Buffers::new(), Vec::new(), Vec::new());
    let now = Instant::from_micros(1);
    Client::new(Arc::new(Config::default()), device(), now).opened(
        Transport::new(TO_SERVER, TO_CLIENT),
        &mut Cx {
            now,
            unix_ms: START_UNIX_MS,
            entropy,
            out: &mut out,
            scratch: &mut scratch,
            effects: &mut effects,
        },
    )
}
