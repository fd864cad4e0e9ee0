//! From a `<message>` and the records that it needs to its content: pure, and told twice.
//!
//! [`wanted`] says which records are missing; when there are none, [`open`] decrypts. A first look may uncover a second
//! (the mapping says under which other name a session lies), so the caller asks until nothing is wanted.

use runner_proto::{
    jid::{Jid, Server},
    node::NodeRef,
};
use runner_signal::{
    Identity, PreKey, PreKeySignalMessage, Record, SenderKeyDistribution, SenderKeyMessage, SignalMessage,
    SignedPreKey,
    identity::{self, Seen},
    session::{self, Decrypted, NamedPreKeys},
};

use super::{
    address::{self, Sender},
    failure::{Failure, Unread},
};
use crate::{
    content,
    record::{Found, RecordBytes, RecordKey, RecordKind, Records},
};

/// Ciphertexts of one message. Real ones have two, of which the first brings the key of the second; each may name
/// records that are to be loaded and cost an agreement of keys.
const MAX_CIPHERTEXTS: usize = 8;

/// Our own keys, as the credentials have them.
#[derive(Clone, Debug)]
pub(crate) struct OwnKeys {
    pub(crate) identity: Identity,
    pub(crate) signed_pre_key: SignedPreKey,
    /// The one that has taken its place at the server.
    pub(crate) rotated: Option<Box<SignedPreKey>>,
    /// The encoded `ADVSignedDeviceIdentity`.
    pub(crate) account: Option<Box<[u8]>>,
}

impl OwnKeys {
    /// The signed pre-key in use.
    pub(crate) fn current(&self) -> &SignedPreKey {
        self.rotated.as_deref().unwrap_or(&self.signed_pre_key)
    }

    /// The signed pre-key with this id, unless it is one that is only in the store.
    fn signed(&self, id: u32) -> Option<&SignedPreKey> {
        [self.current(), &self.signed_pre_key].into_iter().find(|key| key.id == id)
    }
}

/// What is in one `<enc>`, or instead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Enc<'a> {
    PreKey(&'a [u8]),
    Signal(&'a [u8]),
    SenderKey(&'a [u8]),
    Other,
}

/// What a message holds.
enum Body<'a> {
    Encrypted(Vec<Enc<'a>>),
    /// Not encrypted: a newsletter's.
    Plain(&'a [u8]),
    /// Neither.
    Nothing(Failure),
}

/// A message after it was opened, or was not.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) outcome: Outcome,
    /// In order; `None`: the record is used up.
    pub(super) changes: Vec<(RecordKey, Option<RecordBytes>)>,
    /// The sender's identity key is another one than before.
    pub(super) has_new_identity: bool,
}

/// What a message came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A content for the consumer, decrypted or never encrypted.
    Content {
        content: Vec<u8>,
        was_encrypted: bool,
    },
    /// Read, and for us alone.
    Internal,
    Failed(Failure),
}

/// Takes a `<message>` apart.
fn body(message: NodeRef<'_>) -> Body<'_> {
    // Of anybody else, words that were not encrypted are the server's, whoever it says wrote them.
    let is_newsletter = message
        .attr("from")
        .and_then(|from| from.to_jid())
        .is_some_and(|from| from.server == Server::Newsletter);
    let mut encs = Vec::new();
    let mut otherwise = Failure::Empty;
    for child in message.children() {
        let tag = child.tag();
        if tag == "enc" {
            if encs.len() == MAX_CIPHERTEXTS {
                return Body::Nothing(Failure::Malformed);
            }
            let kind = child.attr("type");
            let is = |wanted: &str| kind.is_some_and(|kind| kind == *wanted);
            let has_padding = child.attr("v").is_none_or(|version| version == *"2");
            encs.push(match child.bytes() {
                Some(bytes) if has_padding && is("pkmsg") => Enc::PreKey(bytes),
                Some(bytes) if has_padding && is("msg") => Enc::Signal(bytes),
                Some(bytes) if has_padding && is("skmsg") => Enc::SenderKey(bytes),
                _ => Enc::Other,
            });
        } else if tag == "plaintext"
            && is_newsletter
            && let Some(bytes) = child.bytes()
        {
            return Body::Plain(bytes);
        } else if tag == "unavailable" {
            otherwise = Failure::Unavailable;
        }
    }
    if encs.is_empty() { Body::Nothing(otherwise) } else { Body::Encrypted(encs) }
}

/// The records that message number `user` needs and that are not here. Those that are here are kept for it.
pub(super) fn wanted(
    message: NodeRef<'_>,
    records: &mut Records,
    keys: &OwnKeys,
    user: u64,
) -> Vec<RecordKey> {
    let mut wanted = Vec::new();
    let (Body::Encrypted(encs), Some(sender)) = (body(message), Sender::of(message)) else { return wanted };
    let mut want = |key: RecordKey| {
        if records.find(&key, user) == Found::Missing && !wanted.contains(&key) {
            wanted.push(key);
        }
    };
    if let Some(other) = &sender.other {
        address::mappings(&sender.device, other).into_iter().for_each(|(key, _)| want(key));
    } else {
        want(sender.mapping());
    }
    // Both names, since neither says where the session lies until the mapping is here.
    let mapping = records.peek(&sender.mapping());
    let other = sender.other_by(mapping);
    let (name, still) = address::names(&sender.device, other.as_ref());
    let mut want = |key: RecordKey| {
        if records.find(&key, user) == Found::Missing && !wanted.contains(&key) {
            wanted.push(key);
        }
    };
    for name in [Some(&name), still.as_ref()].into_iter().flatten() {
        for enc in &encs {
            match enc {
                Enc::Signal(_) => want(RecordKey::new(RecordKind::Session, name)),
                Enc::PreKey(_) => {
                    want(RecordKey::new(RecordKind::Session, name));
                    want(RecordKey::new(RecordKind::Identity, name));
                }
                Enc::SenderKey(_) | Enc::Other => {}
            }
            // Any of them may bring the group's key.
            if let Some(group) = &sender.group {
                want(address::sender_key(group, name));
            }
        }
    }
    for enc in &encs {
        if let Enc::PreKey(bytes) = enc
            && let Ok(named) = PreKeySignalMessage::parse(bytes)
        {
            if let Some(id) = named.pre_key_id {
                want(RecordKey::new(RecordKind::PreKey, id.to_string()));
            }
            if keys.signed(named.signed_pre_key_id).is_none() {
                want(RecordKey::new(RecordKind::SignedPreKey, named.signed_pre_key_id.to_string()));
            }
        }
    }
    wanted
}

/// Opens message number `user`. All records that it [`wanted`] are here; its changes are in `records` afterwards.
pub(super) fn open(message: NodeRef<'_>, records: &mut Records, keys: &OwnKeys, user: u64) -> Opened {
    let failed =
        |failure| Opened { outcome: Outcome::Failed(failure), changes: Vec::new(), has_new_identity: false };
    let encs = match body(message) {
        Body::Encrypted(encs) => encs,
        Body::Plain(bytes) => {
            let outcome = Outcome::Content { content: bytes.to_vec(), was_encrypted: false };
            return Opened { outcome, changes: Vec::new(), has_new_identity: false };
        }
        Body::Nothing(why) => return failed(why),
    };
    let Some(sender) = Sender::of(message) else { return failed(Failure::Malformed) };
    let other = sender.other_by(records.peek(&sender.mapping()));
    let (name, still) = address::names(&sender.device, other.as_ref());
    let mut opening = Opening {
        records,
        keys,
        user,
        sender: &sender,
        name,
        still,
        changes: Vec::new(),
        has_new_identity: false,
    };
    if let Some(other) = &sender.other {
        opening.note_mapping(other);
    }
    let outcome = opening.open_all(&encs);
    let Opening { changes, has_new_identity, .. } = opening;
    Opened { outcome, changes, has_new_identity }
}

/// One message being opened.
struct Opening<'a> {
    records: &'a mut Records,
    keys: &'a OwnKeys,
    user: u64,
    sender: &'a Sender,
    /// The name of the sender's records.
    name: String,
    /// Where they may lie still.
    still: Option<String>,
    changes: Vec<(RecordKey, Option<RecordBytes>)>,
    has_new_identity: bool,
}

impl Opening<'_> {
    fn open_all(&mut self, encs: &[Enc<'_>]) -> Outcome {
        let (mut content, mut failure, mut is_known) = (None, None, false);
        for enc in encs {
            let opened = self
                .open_one(*enc)
                .and_then(|padded| unpadded(padded).ok_or(Unread::Failed(Failure::BadPadding)));
            match opened {
                Ok(message) => {
                    self.accept_distribution(&message);
                    // What is no protobuf may be one to whoever knows better.
                    if content::has_more(&message).unwrap_or(true) {
                        content = Some(message);
                    }
                }
                Err(Unread::Duplicate) => is_known = true,
                Err(Unread::Failed(why)) => failure = failure.or(Some(why)),
            }
        }
        match (content, failure) {
            (Some(content), _) => Outcome::Content { content, was_encrypted: true },
            (None, Some(why)) => Outcome::Failed(why),
            // The store knows the names of all that was read, and answers a failure of those as read.
            (None, None) if is_known => Outcome::Failed(Failure::KeyGone),
            (None, None) => Outcome::Internal,
        }
    }

    fn open_one(&mut self, enc: Enc<'_>) -> Result<Vec<u8>, Unread> {
        match enc {
            Enc::PreKey(bytes) => {
                let message = PreKeySignalMessage::parse(bytes).map_err(session::DecryptError::Wire)?;
                self.open_pre_key(&message)
            }
            Enc::Signal(bytes) => {
                let message = SignalMessage::parse(bytes).map_err(session::DecryptError::Wire)?;
                self.in_session(|own, record| session::decrypt(own, record, &message))
            }
            Enc::SenderKey(bytes) => self.open_sender_key(bytes),
            Enc::Other => Err(Unread::Failed(Failure::Unsupported)),
        }
    }

    fn open_pre_key(&mut self, message: &PreKeySignalMessage<'_>) -> Result<Vec<u8>, Unread> {
        let one_time = message.pre_key_id.and_then(|id| {
            self.own(&RecordKey::new(RecordKind::PreKey, id.to_string()))
                .and_then(|record| PreKey::from_record(&record).ok())
        });
        let signed_id = message.signed_pre_key_id;
        let kept = self.keys.signed(signed_id);
        let older = match kept {
            Some(_) => None,
            None => self
                .own(&RecordKey::new(RecordKind::SignedPreKey, signed_id.to_string()))
                .and_then(|record| SignedPreKey::from_record(&record).ok()),
        };
        let signed = kept.or(older.as_ref());
        let named = NamedPreKeys { signed, one_time: one_time.as_ref() };
        self.in_session(|own, record| session::decrypt_pre_key(own, record, named, message))
    }

    /// Decrypts with the sender's sessions, wherever they lie, and keeps what comes of it.
    fn in_session(
        &mut self,
        decrypt: impl Fn(&Identity, Option<&[u8]>) -> Result<Decrypted, session::DecryptError>,
    ) -> Result<Vec<u8>, Unread> {
        let key = |name: &str| RecordKey::new(RecordKind::Session, name);
        let (kept, still) = (key(&self.name), self.still.as_deref().map(key));
        let record = self.own(&kept);
        let older = still.as_ref().and_then(|still| self.own(still));
        let own = &self.keys.identity;
        let (decrypted, is_older) = match (&record, &older) {
            (None, Some(older)) => (decrypt(own, Some(older)), true),
            (record, None) => (decrypt(own, record.as_deref()), false),
            (Some(record), Some(older)) => match decrypt(own, Some(record)) {
                // The peer goes on under its older address, with the session that it has there. Of that the other
                // record knows nothing, whatever it says of the message: too far ahead, an unknown pre-key.
                Err(error) => match decrypt(own, Some(older)) {
                    Ok(decrypted) => (Ok(decrypted), true),
                    Err(_) => (Err(error), false),
                },
                Ok(decrypted) => (Ok(decrypted), false),
            },
        };
        let Decrypted { record: changed, plaintext, used_pre_key, new_identity } = decrypted?;
        let stays = is_older && record.is_some();
        let target = if stays { still.clone().unwrap_or_else(|| kept.clone()) } else { kept };
        self.set(target, Some(own_bytes(changed)));
        if is_older && !stays {
            still.into_iter().for_each(|still| self.set(still, None));
        }
        if let Some(id) = used_pre_key {
            self.set(RecordKey::new(RecordKind::PreKey, id.to_string()), None);
        }
        if let Some(identity) = new_identity {
            let key = RecordKey::new(RecordKind::Identity, &self.name);
            let before = self.own(&key).or_else(|| {
                self.still.as_ref().and_then(|still| self.own(&RecordKey::new(RecordKind::Identity, still)))
            });
            // A damaged record says nothing of the key before.
            let observed = identity::observe(before.as_deref(), &identity)
                .or_else(|_| identity::observe(None, &identity))
                .map_err(|_| Unread::Failed(Failure::Record))?;
            let (seen, record) = observed;
            self.has_new_identity |= matches!(seen, Seen::Changed { .. });
            if let Some(record) = record {
                self.set(key, Some(own_bytes(record)));
            }
        }
        Ok(plaintext)
    }

    fn open_sender_key(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Unread> {
        let message = SenderKeyMessage::parse(bytes).map_err(runner_signal::group::DecryptError::Wire)?;
        let Some(group) = &self.sender.group else { return Err(Unread::Failed(Failure::Malformed)) };
        let mut outcome = Err(Unread::Failed(Failure::NoSenderKey));
        let (used, other) = self.sender_keys(group);
        for key in [Some(used), other].into_iter().flatten() {
            let record = self.own(&key);
            match runner_signal::group::decrypt(record.as_deref(), &message) {
                Ok(decrypted) => {
                    self.set(key, Some(own_bytes(decrypted.record)));
                    return Ok(decrypted.plaintext);
                }
                Err(error) if record.is_some() => outcome = Err(error.into()),
                Err(_) => {}
            }
        }
        outcome
    }

    /// Where the sender's key for the group is kept, and where else it may lie. Unlike a session it is kept under the address
    /// that the group uses: there Baileys looks for it, and nowhere else.
    fn sender_keys(&self, group: &Jid) -> (RecordKey, Option<RecordKey>) {
        let used = address::address(&self.sender.device);
        let other = if used == self.name { self.still.as_ref() } else { Some(&self.name) };
        (address::sender_key(group, &used), other.map(|name| address::sender_key(group, name)))
    }

    /// Keeps the sender's key for its group, when the message brings it.
    fn accept_distribution(&mut self, message: &[u8]) {
        let found = content::key_distribution(message).ok().flatten();
        let Some((group, bytes)) = found else { return };
        // A key for another group than the one that it came through would be taken on the word of a stranger.
        let Some(group) = group.parse::<Jid>().ok().filter(|group| self.sender.group.as_ref() == Some(group))
        else {
            return;
        };
        let Ok(distribution) = SenderKeyDistribution::parse(bytes) else { return };
        let (key, _) = self.sender_keys(&group);
        let record = self.own(&key);
        if let Ok(Some(changed)) = runner_signal::group::accept(record.as_deref(), &distribution) {
            self.set(key, Some(own_bytes(changed)));
        }
    }

    /// Remembers that two addresses belong together, unless that is known.
    fn note_mapping(&mut self, other: &Jid) {
        for (key, value) in address::mappings(&self.sender.device, other) {
            if self.records.peek(&key) != Some(&value) {
                self.set(key, Some(value.into()));
            }
        }
    }

    fn own(&self, key: &RecordKey) -> Option<Vec<u8>> {
        self.records.peek(key).map(<[u8]>::to_vec)
    }

    fn set(&mut self, key: RecordKey, record: Option<RecordBytes>) {
        self.records.set(key.clone(), record.clone(), self.user);
        self.changes.push((key, record));
    }
}

/// Takes the padding off: N bytes, each of value N, of which the last tells the number.
fn unpadded(mut padded: Vec<u8>) -> Option<Vec<u8>> {
    let &count = padded.last()?;
    let len = padded.len().checked_sub(usize::from(count))?;
    let is_padding = count > 0 && padded.get(len..)?.iter().all(|&byte| byte == count);
    is_padding.then(|| {
        padded.truncate(len);
        padded
    })
}

fn own_bytes(record: Record) -> RecordBytes {
    record.into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_taken_off_only_when_it_is_whole() {
        assert_eq!(unpadded(vec![7, 1]), Some(vec![7]));
        assert_eq!(unpadded(vec![7, 3, 3, 3]), Some(vec![7]));
        assert_eq!(unpadded(vec![16; 16]), Some(vec![]));
        assert_eq!(unpadded(vec![7, 2, 3, 3]), None, "one byte of it is another");
        assert_eq!(unpadded(vec![7, 9]), None, "more than there is");
        assert_eq!(unpadded(vec![7, 0]), None);
        assert_eq!(unpadded(vec![]), None);
    }
}
