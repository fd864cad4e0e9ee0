//! Devices whose end-to-end encryption is this crate's: JSON lines on stdin and stdout, see
//! tests/support/signal_peers.py. For tests only: the randomness is repeatable.

#![allow(clippy::unwrap_used, reason = "a request that cannot be served is a bug of the test")]

use std::collections::HashMap;
use std::io::{BufRead, Write};

use runner_signal::session::{self, MessageKind, NamedPreKeys};
use runner_signal::{
    Bundle, Identity, KeyPair, PreKey, PreKeySignalMessage, PublicKey, SenderKeyDistribution,
    SenderKeyMessage, SignalMessage, SignedPreKey, baileys, group,
};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

/// Repeatable "randomness" (splitmix64).
struct Steps(u64);

impl Steps {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

/// One device: what is on its disk, and the leases, which are not.
struct Device {
    identity: Identity,
    signed: SignedPreKey,
    next_pre_key: u32,
    pre_keys: HashMap<u32, Vec<u8>>,
    sessions: HashMap<String, Vec<u8>>,
    sender_keys: HashMap<(String, String), Vec<u8>>,
    lease: u32,
    leases: HashMap<String, session::Lease>,
    group_leases: HashMap<String, group::Lease>,
    steps: Steps,
}

/// The owner of a device's own sender keys.
const SELF: &str = "";

impl Device {
    fn new(seed: u64, lease: u32) -> Self {
        let mut steps = Steps(seed);
        let identity = Identity::generate(&mut |bytes| steps.fill(bytes));
        let signed = SignedPreKey::generate(&identity, 1, &mut |bytes| steps.fill(bytes));
        Self {
            identity,
            signed,
            next_pre_key: 1,
            pre_keys: HashMap::new(),
            sessions: HashMap::new(),
            sender_keys: HashMap::new(),
            lease,
            leases: HashMap::new(),
            group_leases: HashMap::new(),
            steps,
        }
    }

    fn bundle(&mut self, with_pre_key: bool) -> Value {
        let mut bundle = json!({
            "registrationId": self.identity.registration_id(),
            "identity": hex(&self.identity.public().to_wire()),
            "signedPreKeyId": self.signed.id,
            "signedPreKey": hex(&self.signed.pair.public().to_wire()),
            "signature": hex(&self.signed.signature),
        });
        if with_pre_key {
            let key = PreKey::generate(self.next_pre_key, &mut |bytes| self.steps.fill(bytes));
            self.next_pre_key += 1;
            self.pre_keys.insert(key.id, key.to_record().into_bytes());
            bundle["preKeyId"] = key.id.into();
            bundle["preKey"] = hex(&key.pair.public().to_wire()).into();
        }
        bundle
    }

    fn start(&mut self, peer: &str, bundle: &Value) -> Result<(), Failure> {
        let key = |name: &str| PublicKey::from_wire(&bytes(&bundle[name])).unwrap();
        let bundle = Bundle {
            registration_id: number(&bundle["registrationId"]),
            identity: key("identity"),
            signed_pre_key_id: number(&bundle["signedPreKeyId"]),
            signed_pre_key: key("signedPreKey"),
            signature: bytes(&bundle["signature"]).try_into().unwrap(),
            pre_key: bundle.get("preKeyId").map(|id| (number(id), key("preKey"))),
        };
        let old = self.sessions.get(peer).map(Vec::as_slice);
        let record = session::start(&self.identity, old, &bundle, &mut |bytes| self.steps.fill(bytes))?;
        self.commit(peer, record.into_bytes());
        Ok(())
    }

    /// Commits a session that was not changed by its lease.
    fn commit(&mut self, peer: &str, record: Vec<u8>) {
        if self.leases.get(peer).is_some_and(|lease| !lease.is_current(&record).unwrap()) {
            self.leases.remove(peer);
        }
        self.sessions.insert(peer.into(), record);
    }

    fn encrypt(&mut self, peer: &str, plaintext: &[u8]) -> Result<Value, Failure> {
        if self.leases.get(peer).is_none_or(|lease| lease.left() == 0) {
            let record = self.sessions.get(peer).map(Vec::as_slice);
            let random = &mut |bytes: &mut [u8]| self.steps.fill(bytes);
            let leased = session::lease(&self.identity, record, self.lease, random)?;
            self.sessions.insert(peer.into(), leased.record.into_bytes());
            self.leases.insert(peer.into(), leased.lease);
        }
        let message = self.leases.get_mut(peer).unwrap().encrypt(plaintext)?;
        let kind = match message.kind {
            MessageKind::PreKey => "pkmsg",
            MessageKind::Signal => "msg",
        };
        Ok(json!({"type": kind, "bytes": hex(&message.bytes)}))
    }

    fn decrypt(&mut self, peer: &str, kind: &str, message: &[u8]) -> Result<Value, Failure> {
        let record = self.sessions.get(peer).map(Vec::as_slice);
        let opened = if kind == "pkmsg" {
            let message = PreKeySignalMessage::parse(message)?;
            let one_time = message.pre_key_id.and_then(|id| self.pre_keys.get(&id));
            let one_time = one_time.map(|record| PreKey::from_record(record)).transpose()?;
            let is_ours = message.signed_pre_key_id == self.signed.id;
            let keys = NamedPreKeys { signed: is_ours.then_some(&self.signed), one_time: one_time.as_ref() };
            session::decrypt_pre_key(&self.identity, record, keys, &message)?
        } else {
            session::decrypt(&self.identity, record, &SignalMessage::parse(message)?)?
        };
        if let Some(id) = opened.used_pre_key {
            self.pre_keys.remove(&id);
        }
        self.commit(peer, opened.record.into_bytes());
        Ok(json!({"plaintext": hex(&opened.plaintext)}))
    }

    fn own_sender_key(&mut self, group: &str) -> &mut Vec<u8> {
        let random = &mut |bytes: &mut [u8]| self.steps.fill(bytes);
        self.sender_keys
            .entry((group.into(), SELF.into()))
            .or_insert_with(|| group::create(random).into_bytes())
    }

    fn distribution(&mut self, group: &str) -> Result<Value, Failure> {
        let bytes = match self.group_leases.get(group) {
            Some(lease) => lease.distribution(),
            None => group::distribution(self.own_sender_key(group))?,
        };
        Ok(json!({"bytes": hex(&bytes)}))
    }

    fn group_encrypt(&mut self, group: &str, plaintext: &[u8]) -> Result<Value, Failure> {
        if self.group_leases.get(group).is_none_or(|lease| lease.left() == 0) {
            let count = self.lease;
            let record = self.own_sender_key(group);
            let leased = group::lease(Some(record), count)?;
            *record = leased.record.into_bytes();
            self.group_leases.insert(group.into(), leased.lease);
        }
        let random = &mut |bytes: &mut [u8]| self.steps.fill(bytes);
        let message = self.group_leases.get_mut(group).unwrap().encrypt(plaintext, random)?;
        Ok(json!({"bytes": hex(&message)}))
    }

    /// Takes over what Baileys wrote.
    fn import(request: &Value) -> Result<Self, Failure> {
        let secret = |name: &str| -> [u8; 32] { bytes(&request[name]).try_into().unwrap() };
        let mut device = Self::new(number(&request["seed"]).into(), 1);
        device.identity =
            Identity::new(KeyPair::from_secret(secret("identity")), number(&request["registrationId"]));
        device.signed = SignedPreKey {
            id: number(&request["signedPreKeyId"]),
            pair: KeyPair::from_secret(secret("signedPreKey")),
            signature: bytes(&request["signature"]).try_into().unwrap(),
        };
        device.next_pre_key = number(&request["nextPreKeyId"]);
        for (id, json) in files(&request["preKeys"]) {
            let id = id.parse()?;
            device.pre_keys.insert(id, baileys::pre_key_record(id, json)?.into_bytes());
        }
        for (peer, json) in files(&request["sessions"]) {
            device.sessions.insert(peer.into(), baileys::session_record(json)?.record.into_bytes());
        }
        for (name, json) in files(&request["senderKeys"]) {
            let (group, owner) = name.split_once(' ').unwrap();
            let record = baileys::sender_key_record(json)?.record.into_bytes();
            device.sender_keys.insert((group.into(), owner.into()), record);
        }
        Ok(device)
    }

    /// What Baileys would have written.
    fn export(&mut self) -> Result<Value, Failure> {
        let mut files = json!({"preKeys": {}, "sessions": {}, "senderKeys": {}});
        for record in self.pre_keys.values() {
            let (id, json) = baileys::pre_key_json(record)?;
            files["preKeys"][id.to_string()] = String::from_utf8(json)?.into();
        }
        for (peer, record) in &self.sessions {
            let json = baileys::session_json(record, 1_800_000_000_000, &mut |bytes| self.steps.fill(bytes))?;
            files["sessions"][peer] = String::from_utf8(json)?.into();
        }
        for ((group, owner), record) in &self.sender_keys {
            let json = baileys::sender_key_json(record)?;
            files["senderKeys"][format!("{group} {owner}")] = String::from_utf8(json)?.into();
        }
        files["nextPreKeyId"] = self.next_pre_key.into();
        Ok(files)
    }

    /// What is on its disk, for vectors.
    fn records(&self) -> Value {
        let hexed = |records: &HashMap<String, Vec<u8>>| -> Value {
            records.iter().map(|(name, record)| (name.clone(), json!(hex(record)))).collect()
        };
        let pre_keys: HashMap<_, _> =
            self.pre_keys.iter().map(|(id, record)| (id.to_string(), record.clone())).collect();
        let sender_keys: HashMap<_, _> = self
            .sender_keys
            .iter()
            .map(|((group, owner), record)| (format!("{group} {owner}"), record.clone()))
            .collect();
        json!({
            "identity": hex(self.identity.pair().expose()),
            "registrationId": self.identity.registration_id(),
            "signedPreKey": hex(self.signed.to_record().as_bytes()),
            "preKeys": hexed(&pre_keys),
            "sessions": hexed(&self.sessions),
            "senderKeys": hexed(&sender_keys),
        })
    }

    fn answer(&mut self, request: &Value) -> Result<Value, Failure> {
        let text = |name: &str| request[name].as_str().unwrap_or_default();
        let (peer, group, content) = (text("peer"), text("group"), bytes(&request["bytes"]));
        let plaintext = bytes(&request["plaintext"]);
        let theirs = (group.to_owned(), peer.to_owned());
        match text("op") {
            "bundle" => Ok(self.bundle(request["oneTime"].as_bool().unwrap_or_default())),
            "start" => self.start(peer, &request["bundle"]).map(|()| json!({})),
            "encrypt" => self.encrypt(peer, &plaintext),
            "decrypt" => self.decrypt(peer, text("type"), &content),
            "distribution" => self.distribution(group),
            "accept" => {
                let known = self.sender_keys.get(&theirs).map(Vec::as_slice);
                if let Some(record) = group::accept(known, &SenderKeyDistribution::parse(&content)?)? {
                    self.sender_keys.insert(theirs, record.into_bytes());
                }
                Ok(json!({}))
            }
            "groupEncrypt" => self.group_encrypt(group, &plaintext),
            "groupDecrypt" => {
                let known = self.sender_keys.get(&theirs).map(Vec::as_slice);
                let opened = group::decrypt(known, &SenderKeyMessage::parse(&content)?)?;
                self.sender_keys.insert(theirs, opened.record.into_bytes());
                Ok(json!({"plaintext": hex(&opened.plaintext)}))
            }
            "export" => self.export(),
            "records" => Ok(self.records()),
            "rotate" => {
                self.group_leases.remove(group);
                self.sender_keys.remove(&(group.to_owned(), SELF.to_owned()));
                Ok(json!({}))
            }
            // kill -9: what is not on disk is gone.
            "crash" => {
                self.leases.clear();
                self.group_leases.clear();
                Ok(json!({}))
            }
            other => Err(format!("unknown operation {other}").into()),
        }
    }
}

fn files(value: &Value) -> impl Iterator<Item = (&str, &[u8])> {
    value.as_object().unwrap().iter().map(|(name, json)| (name.as_str(), json.as_str().unwrap().as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_default();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

fn main() {
    let mut devices = HashMap::<String, Device>::new();
    let mut stdout = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let name = request["device"].as_str().unwrap();
        let answer = if request["op"] == "create" {
            let lease = request.get("lease").map_or(1, number);
            devices.insert(name.into(), Device::new(number(&request["seed"]).into(), lease));
            json!({})
        } else if request["op"] == "import" {
            devices.insert(name.into(), Device::import(&request).unwrap());
            json!({})
        } else {
            let device = devices.get_mut(name).unwrap();
            device.answer(&request).unwrap_or_else(|failure| json!({"error": failure.to_string()}))
        };
        writeln!(stdout, "{answer}").unwrap();
    }
}
