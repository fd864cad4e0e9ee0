//! The pairing code: made here, typed into the phone, agreed upon.
//!
//! The code is stretched twice, to wrap our ephemeral key and to open the phone's. That is tens of milliseconds of work,
//! done in slices so that the thread's other sessions do not wait for it ([`Client::handle_work`](crate::Client)).

use std::time::Duration;

use runner_proto::{
    entropy::Entropy,
    jid::Jid,
    link_code::{self, BUNDLE_LEN, Bundle, CODE_LEN, ROUNDS, Stretch, WRAPPED_LEN},
    node::NodeRef,
    noise::{KeyPair, dh},
};

use crate::{
    Secret,
    new_device::{NewDevice, key_pair},
    secret::ForEyes,
};

/// How long a code can be typed in.
pub(crate) const TTL: Duration = Duration::from_secs(180);

/// Codes on one connection. The server limits them as well, and what it counts is the phone number.
const MAX_CODES: u8 = 3;

/// A code that was typed wrongly so often is void.
const MAX_HELLOS: u8 = 3;

/// The longest reference that is kept, in bytes.
const MAX_REFERENCE: usize = 512;

/// Rounds of stretching in one turn of the driver: about a quarter of a millisecond of work.
const SLICE_ROUNDS: u32 = 512;

/// The codes of one connection; one at a time.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    current: Option<Current>,
    made: u8,
    /// The ADV secret that came of a code.
    agreed: Option<Secret>,
}

#[derive(Debug)]
struct Current {
    phone: Jid,
    code: Code,
    ephemeral: KeyPair,
    /// As the server calls this attempt, once it has said so.
    reference: Option<Vec<u8>>,
    hellos: u8,
    is_offered: bool,
    work: Option<Work>,
}

struct Code([u8; CODE_LEN]);

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Code(..)")
    }
}

/// The code being stretched, and what for.
#[derive(Debug)]
struct Work {
    stretch: Stretch,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Our ephemeral key is to be wrapped.
    Hello { salt: [u8; 32] },
    /// The phone's is to be opened.
    Finish { wrapped: Box<[u8; WRAPPED_LEN]>, primary: [u8; 32], reference: Vec<u8> },
}

/// A request that is to be sent.
#[derive(Debug)]
pub(crate) enum Ready {
    /// `companion_hello`.
    Hello { phone: Jid, wrapped: [u8; WRAPPED_LEN] },
    /// `companion_finish`.
    Finish { phone: Jid, bundle: Box<[u8; BUNDLE_LEN]>, reference: Vec<u8> },
}

impl Codes {
    /// Begins a code for the phone with this number, in place of the one before. False when there were too many.
    pub(crate) fn begin(&mut self, phone: Jid, entropy: &mut dyn Entropy) -> bool {
        if self.made >= MAX_CODES {
            return false;
        }
        self.made += 1;
        let code = link_code::code(entropy);
        let mut salt = [0; 32];
        entropy.fill(&mut salt);
        let work = Work { stretch: Stretch::new(&code, &salt, ROUNDS), what: What::Hello { salt } };
        self.current = Some(Current {
            phone,
            code: Code(code),
            ephemeral: key_pair(entropy),
            reference: None,
            hellos: 0,
            is_offered: false,
            work: Some(work),
        });
        true
    }

    /// The secret that the last code led to, if one did.
    pub(crate) const fn agreed(&self) -> Option<&Secret> {
        self.agreed.as_ref()
    }

    /// The server took our hello: the code, as it is shown.
    pub(crate) fn on_hello_taken(&mut self, answer: NodeRef<'_>) -> Option<ForEyes> {
        let current = self.current.as_mut()?;
        let reference =
            answer.child("link_code_companion_reg").and_then(|reg| bytes(reg, "link_code_pairing_ref"));
        current.reference = reference.filter(|reference| reference.len() <= MAX_REFERENCE);
        current.is_offered = true;
        let text = str::from_utf8(&current.code.0).ok()?;
        let (first, second) = text.split_at_checked(4)?;
        Some(ForEyes(format!("{first}-{second}")))
    }

    /// The code is void.
    pub(crate) fn forget(&mut self) {
        self.current = None;
    }

    /// `primary_hello`: somebody typed the code, rightly or wrongly. False when the code is void from now on.
    pub(crate) fn on_primary_hello(&mut self, reg: NodeRef<'_>) -> bool {
        let Some(current) = self.current.as_mut().filter(|current| current.is_offered) else { return true };
        let wrapped = bytes(reg, "link_code_pairing_wrapped_primary_ephemeral_pub");
        let primary = bytes(reg, "primary_identity_pub");
        let reference = bytes(reg, "link_code_pairing_ref");
        let (Some(wrapped), Some(primary), Some(reference)) = (
            wrapped.and_then(|bytes| <[u8; WRAPPED_LEN]>::try_from(bytes).ok()),
            primary.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()),
            reference.filter(|reference| reference.len() <= MAX_REFERENCE),
        ) else {
            return true;
        };
        if current.reference.as_ref().is_some_and(|known| *known != reference) {
            return true; // of another attempt
        }
        current.hellos += 1;
        if current.hellos > MAX_HELLOS {
            self.current = None;
            return false;
        }
        let stretch = Stretch::new(&current.code.0, &link_code::salt_of(&wrapped), ROUNDS);
        let what = What::Finish { wrapped: Box::new(wrapped), primary, reference };
        current.work = Some(Work { stretch, what });
        true
    }

    /// True while a code is being stretched.
    pub(crate) fn has_work(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.work.is_some())
    }

    /// Does a slice of it; what is ready then.
    pub(crate) fn poll_work(&mut self, device: &NewDevice, entropy: &mut dyn Entropy) -> Option<Ready> {
        let current = self.current.as_mut()?;
        let key = current.work.as_mut()?.stretch.advance(SLICE_ROUNDS)?;
        let phone = current.phone.clone();
        match current.work.take()?.what {
            What::Hello { salt } => {
                let mut iv = [0; 16];
                entropy.fill(&mut iv);
                Some(Ready::Hello {
                    phone,
                    wrapped: link_code::wrap(&key, &salt, iv, current.ephemeral.public()),
                })
            }
            What::Finish { wrapped, primary, reference } => {
                // A key of small order would let anybody know what we agree on.
                let ephemeral = dh(&current.ephemeral, &link_code::unwrap(&key, &wrapped)).ok()?;
                let identity = dh(device.identity(), &primary).ok()?;
                let (mut share, mut salt, mut iv) = ([0; 32], [0; 32], [0; 12]);
                for random in [&mut share[..], &mut salt[..], &mut iv[..]] {
                    entropy.fill(random);
                }
                let bundle = Bundle { companion: *device.identity().public(), primary, share };
                let bundle = Box::new(link_code::seal_bundle(&ephemeral, &salt, iv, &bundle)?);
                self.agreed = Some(Secret::from(*link_code::adv_secret(&ephemeral, &identity, &share)));
                Some(Ready::Finish { phone, bundle, reference })
            }
        }
    }
}

/// The bytes of a child.
fn bytes(node: NodeRef<'_>, tag: &str) -> Option<Vec<u8>> {
    Some(node.child(tag)?.bytes()?.to_vec())
}
