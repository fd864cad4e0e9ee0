//! The sender keys of one device in one group, as their record holds them.

use super::MAX_KEYS;
use crate::chain::{MAX_SKIPPED, Receiving};
use crate::kdf::ChainKey;
use crate::key::Secret;
use crate::record::{self, Kind, Reader, Writer};
use crate::{PublicKey, Record, RecordError, SenderKeyDistribution};

/// One sender key.
#[derive(Clone, Debug)]
pub(crate) struct SenderKey {
    pub(crate) id: u32,
    /// Verifies the messages.
    pub(crate) signing_key: PublicKey,
    /// Signs them; only our own keys have it.
    pub(crate) signing_secret: Option<Secret>,
    /// Never closed.
    pub(crate) chain: Receiving,
}

/// Newest first, at least one.
#[derive(Debug, Default)]
pub(crate) struct SenderKeys {
    pub(crate) keys: Vec<SenderKey>,
}

impl SenderKeys {
    pub(crate) fn decode(record: &[u8]) -> Result<Self, RecordError> {
        record::read(Kind::SenderKey, record, |reader| {
            let keys = Self { keys: reader.list(MAX_KEYS, read_key)? };
            (!keys.keys.is_empty() && keys.skipped() <= MAX_SKIPPED).then_some(keys)
        })
    }

    pub(crate) fn encode(&self) -> Record {
        const FIXED: usize = 1 + 4 + 32 + 32;
        let room = self.keys.iter().map(|key| FIXED + Writer::receiving_len(&key.chain)).sum::<usize>();
        let mut writer = Writer::new(Kind::SenderKey, 1 + room);
        writer.count(self.keys.len());
        for key in &self.keys {
            writer.u8(u8::from(key.signing_secret.is_some()));
            writer.u32(key.id);
            writer.public(&key.signing_key);
            if let Some(secret) = &key.signing_secret {
                writer.secret(secret);
            }
            writer.receiving(&key.chain);
        }
        writer.finish()
    }

    fn skipped(&self) -> usize {
        self.keys.iter().map(|key| key.chain.skipped.len()).sum()
    }

    /// Keeps the seeds of messages that have not come within their limit: the oldest key's oldest go first.
    pub(crate) fn trim(&mut self) {
        let excess = self.skipped().saturating_sub(MAX_SKIPPED);
        self.keys.iter_mut().rev().fold(excess, |excess, key| key.chain.drop_oldest(excess));
    }

    /// Takes over what a device says of its sender key; `false` when that changes nothing.
    ///
    /// Senders announce one key again and again, at wherever they are: what we have of it stays, since it may still read
    /// what is under way. We begin at the new place when we are too far behind to follow, and when our chain does not
    /// lead there: then the sender has begun it anew.
    pub(crate) fn accept(&mut self, told: &SenderKeyDistribution<'_>) -> bool {
        let chain = ChainKey { key: Secret::new(*told.chain_key), index: told.iteration };
        if let Some(at) = self.keys.iter().position(|key| key.id == told.key_id) {
            let known = &mut self.keys[at];
            if known.signing_key == told.signing_key {
                let follows = known.chain.leads_to(&chain);
                if !follows {
                    known.chain.restart(chain);
                }
                return !follows;
            }
            self.keys.remove(at);
        }
        self.keys.insert(
            0,
            SenderKey {
                id: told.key_id,
                signing_key: told.signing_key,
                signing_secret: None,
                chain: Receiving::new(chain),
            },
        );
        self.keys.truncate(MAX_KEYS);
        true
    }
}

fn read_key(reader: &mut Reader<'_>) -> Option<SenderKey> {
    let is_own = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let key = SenderKey {
        id: reader.u32()?,
        signing_key: reader.public()?,
        signing_secret: if is_own { Some(reader.secret()?) } else { None },
        chain: reader.receiving()?,
    };
    key.chain.key.is_some().then_some(key)
}
