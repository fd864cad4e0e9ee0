//! X3DH: the first secret of a session, from identity keys, pre-keys and one ephemeral key.
//!
//! Source: "The X3DH Key Agreement Protocol", revision 1, §3.2–3.4; docs/protocol.md, "Signal".

use zeroize::Zeroizing;

use crate::kdf::{self, ChainKey};
use crate::key::Secret;
use crate::{Bundle, Identity, KeyPair, PreKeySignalMessage, PublicKey, SignedPreKey};

/// The secrets that both sides hold afterwards.
pub(crate) struct Agreed {
    pub(crate) root: Secret,
    /// The responder's first sending chain. It is never used: the responder's state begins with a received message.
    pub(crate) chain: ChainKey,
}

/// The initiator's side; `base` is the ephemeral key. `None`: a key of the bundle is of small order.
pub(crate) fn initiate(own: &Identity, base: &KeyPair, bundle: &Bundle) -> Option<Agreed> {
    agree([
        Some((own.pair().secret(), &bundle.signed_pre_key)),
        Some((base.secret(), &bundle.identity)),
        Some((base.secret(), &bundle.signed_pre_key)),
        bundle.pre_key.as_ref().map(|(_, key)| (base.secret(), key)),
    ])
}

/// The responder's side. `None`: a key of the message is of small order.
pub(crate) fn respond(
    own: &Identity,
    signed: &SignedPreKey,
    one_time: Option<&KeyPair>,
    message: &PreKeySignalMessage<'_>,
) -> Option<Agreed> {
    agree([
        Some((signed.pair.secret(), &message.identity)),
        Some((own.pair().secret(), &message.base_key)),
        Some((signed.pair.secret(), &message.base_key)),
        one_time.map(|pair| (pair.secret(), &message.base_key)),
    ])
}

fn agree(agreements: [Option<(&Secret, &PublicKey)>; 4]) -> Option<Agreed> {
    let mut ikm = Zeroizing::new([0xff; 5 * 32]);
    let mut len = 32;
    for (secret, public) in agreements.into_iter().flatten() {
        ikm[len..len + 32].copy_from_slice(secret.agree(public)?.expose());
        len += 32;
    }
    let (root, chain) = kdf::session(&ikm[..len]);
    Some(Agreed { root, chain })
}
