//! Checksums that tell a damaged row from a good one.
//!
//! Against rot and torn pages, not against an attacker: who can write the file can write the checksum.

use sha2::{Digest, Sha256};

use crate::Credentials;
use crate::secret::SecretBytes;

/// First half of SHA-256.
pub(crate) type Checksum = [u8; 16];

/// Hashes fields with their lengths, so that bytes cannot move between neighbours unnoticed.
struct Fields(Sha256);

impl Fields {
    fn new(domain: &str) -> Self {
        Self(Sha256::new()).bytes(domain.as_bytes())
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    fn optional(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            Some(bytes) => self.bytes(&[1]).bytes(bytes),
            None => self.bytes(&[0]),
        }
    }

    fn finish(self) -> Checksum {
        let digest: [u8; 32] = self.0.finalize().into();
        let mut half = Checksum::default();
        half.copy_from_slice(&digest[..16]);
        half
    }
}

pub(crate) fn device(session_id: &str, credentials: &Credentials, source: &SecretBytes) -> Checksum {
    let c = credentials;
    Fields::new("device")
        .bytes(session_id.as_bytes())
        .bytes(c.jid.as_bytes())
        .optional(c.lid.as_deref().map(str::as_bytes))
        .optional(c.push_name.as_deref().map(str::as_bytes))
        .optional(c.platform.as_deref().map(str::as_bytes))
        .bytes(&c.registration_id.to_be_bytes())
        .bytes(c.noise_secret.expose())
        .bytes(c.identity_secret.expose())
        .bytes(&c.signed_pre_key_id.to_be_bytes())
        .bytes(c.signed_pre_key_secret.expose())
        .bytes(&c.signed_pre_key_signature)
        .bytes(c.adv_secret.expose())
        .optional(c.account.as_deref())
        .bytes(source.expose())
        .finish()
}

pub(crate) fn signal_key(session_id: &str, kind: &str, id: &str, value: &[u8]) -> Checksum {
    Fields::new("signal_key")
        .bytes(session_id.as_bytes())
        .bytes(kind.as_bytes())
        .bytes(id.as_bytes())
        .bytes(value)
        .finish()
}

/// A record in our own form: never taken for one in the form of another program, whatever became of its row.
pub(crate) fn own_record(session_id: &str, kind: &str, id: &str, value: &[u8]) -> Checksum {
    Fields::new("own_record")
        .bytes(session_id.as_bytes())
        .bytes(kind.as_bytes())
        .bytes(id.as_bytes())
        .bytes(value)
        .finish()
}

/// Names a message over all sessions: a quarter of the index size of its four columns.
pub(crate) fn message(session_id: &str, chat: &str, sender: &str, message_id: &str) -> Checksum {
    Fields::new("message")
        .bytes(session_id.as_bytes())
        .bytes(chat.as_bytes())
        .bytes(sender.as_bytes())
        .bytes(message_id.as_bytes())
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_cannot_move_between_fields() {
        assert_ne!(message("s", "ab", "c", "d"), message("s", "a", "bc", "d"));
        assert_ne!(signal_key("s", "t", "i", b""), signal_key("s", "t", "", b"i"));
    }
}
