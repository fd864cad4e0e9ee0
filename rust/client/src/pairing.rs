//! Linking a new device with a phone: what waits to be scanned, and the phone's consent.
//!
//! The server hands out references. Each becomes a QR code for a while ([`Pairing::poll_qr`]); or the person types a
//! code ([`code`]) into the phone instead. Either way the phone's consent comes as `<pair-success>`, and is believed
//! only under a secret that the phone can have from this device alone. docs/protocol.md, "Pairing".

pub(crate) mod code;

use std::{collections::VecDeque, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use code::Codes;
use runner_proto::{
    adv::{self, AdvError},
    entropy::Entropy,
    jid::{Jid, Server},
    node::NodeRef,
    time::Instant,
};
use runner_signal::{PublicKey, identity};

use crate::{
    Write,
    effect::LinkedDevice,
    new_device::NewDevice,
    receive::address,
    record::{RecordKey, RecordKind},
    secret::ForEyes,
};

/// What a phone's camera opens; the web client writes it in front of the rest.
const PREFIX: &str = "https://wa.me/settings/linked_devices#";

/// `companion_platform_id` of Chrome.
pub(crate) const PLATFORM_ID: &str = "1";

/// How long the first QR code is shown, and each of the others.
const FIRST: Duration = Duration::from_secs(60);
const OTHERS: Duration = Duration::from_secs(20);

/// However often references and codes come anew: a person who has not linked the phone by then has left.
const AT_MOST: Duration = Duration::from_secs(600);

/// More references than this, or longer ones, are not what a server sends.
const MAX_REFS: usize = 16;
const MAX_REF: usize = 512;

/// The longest name of a platform that is kept, in bytes.
const MAX_PLATFORM: usize = 64;
/// The longest name of a business that is kept, in bytes.
const MAX_NAME: usize = 1024;

/// One attempt to link one new device.
#[derive(Debug)]
pub(crate) struct Pairing {
    pub(crate) device: NewDevice,
    pub(crate) codes: Codes,
    /// Whose phone is to be offered a code, as soon as the server knows this device.
    pub(crate) wanted: Option<Jid>,
    /// The encoded answer to `<pair-success>`, until the device is durable.
    pub(crate) answer: Option<Vec<u8>>,
    /// The phone's identity key, until then as well.
    pub(crate) phone: Option<Write>,
    /// Until when the person has time; None until the server knows this device.
    until: Option<Instant>,
    began_at: Instant,
    /// References not shown yet, when the next of them is, and for how long.
    refs: VecDeque<String>,
    next_at: Option<Instant>,
    next_ttl: Duration,
}

/// A consent that was verified, and the device that it makes.
pub(crate) struct Linked {
    pub(crate) device: LinkedDevice,
    pub(crate) key_index: u32,
    /// The encoded device identity for the answer.
    pub(crate) signed: Vec<u8>,
    /// The identity key of the phone: the one that its messages must be of.
    pub(crate) phone: Write,
}

impl Pairing {
    pub(crate) fn new(device: NewDevice, now: Instant) -> Self {
        Self {
            device,
            codes: Codes::default(),
            wanted: None,
            answer: None,
            phone: None,
            until: None,
            began_at: now,
            refs: VecDeque::new(),
            next_at: None,
            next_ttl: FIRST,
        }
    }

    /// `<pair-device>`: the references to show, all the time that they take together.
    pub(crate) fn on_refs(&mut self, pair_device: NodeRef<'_>, now: Instant) -> Duration {
        let refs = pair_device.children().filter(|child| child.tag() == *"ref");
        self.refs = refs
            .take(MAX_REFS)
            .filter_map(|child| Some(child.content().as_text()?.to_string()))
            .filter(|reference| !reference.is_empty() && reference.len() <= MAX_REF)
            .collect();
        (self.next_at, self.next_ttl) = (Some(now), FIRST);
        match u32::try_from(self.refs.len()) {
            Ok(0) | Err(_) => Duration::ZERO,
            Ok(count) => FIRST + OTHERS * (count - 1),
        }
    }

    /// Whether the server has heard of this device, so that a phone could.
    pub(crate) const fn is_known(&self) -> bool {
        self.until.is_some()
    }

    /// The person has `lasts` from now at least; returns until when that is.
    pub(crate) fn extend(&mut self, lasts: Duration, now: Instant) -> Instant {
        let until = (now + lasts).min(self.began_at + AT_MOST);
        let until = self.until.map_or(until, |earlier| earlier.max(until));
        self.until = Some(until);
        until
    }

    /// The next QR code, when the one before it is used up: its text, its time to live, and how many follow.
    pub(crate) fn poll_qr(&mut self, now: Instant) -> Option<(ForEyes, Duration, usize)> {
        self.next_at.filter(|at| *at <= now)?;
        let Some(reference) = self.refs.pop_front() else {
            self.next_at = None;
            return None;
        };
        let ttl = std::mem::replace(&mut self.next_ttl, OTHERS);
        self.next_at = Some(now + ttl);
        let text = format!(
            "{PREFIX}{reference},{},{},{},{PLATFORM_ID}",
            BASE64.encode(self.device.noise().public()),
            BASE64.encode(self.device.identity().public()),
            BASE64.encode(self.device.adv_secret().expose()),
        );
        Some((ForEyes(text), ttl, self.refs.len()))
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next_at
    }

    /// `<pair-success>`: verifies the consent and makes the device that it says.
    pub(crate) fn on_success(
        &self,
        success: NodeRef<'_>,
        entropy: &mut dyn Entropy,
    ) -> Result<Linked, AdvError> {
        let signed_identity = success.child("device-identity").and_then(|child| child.bytes());
        let names = success.child("device").ok_or(AdvError::Unreadable)?;
        let jid = names.attr("jid").and_then(|jid| jid.to_jid()).ok_or(AdvError::Unreadable)?;
        if jid.server != Server::Pn || jid.device == 0 || jid.user.parse::<u64>().is_err() {
            return Err(AdvError::Unreadable);
        }
        let lid = names.attr("lid").and_then(|lid| lid.to_jid()).filter(|lid| lid.server == Server::Lid);
        let platform = success.child("platform").and_then(|platform| platform.attr("name"));
        let platform = platform.map(|name| name.to_string()).filter(|name| name.len() <= MAX_PLATFORM);
        let business = success.child("biz").and_then(|business| business.attr("name"));
        let business = business.map(|name| name.to_string()).filter(|name| name.len() <= MAX_NAME);

        let bytes = signed_identity.ok_or(AdvError::Unreadable)?;
        let own = self.device.identity();
        // A code that was agreed replaces no QR code that is still on a screen.
        let secrets = [self.codes.agreed(), Some(self.device.adv_secret())];
        let mut refusal = AdvError::HmacMismatch;
        for secret in secrets.into_iter().flatten() {
            match adv::verify(bytes, secret.expose(), own.public()) {
                Err(error) => refusal = error,
                Ok(consent) => {
                    let mut random = [0; 64];
                    entropy.fill(&mut random);
                    let signature = consent.sign(own.secret(), &random);
                    let device = self.device.linked(&jid, secret.clone(), &consent, &signature);
                    let device = LinkedDevice {
                        lid: lid.as_ref().map(ToString::to_string),
                        push_name: business,
                        platform,
                        ..device
                    };
                    let signed = consent.encode(&signature, false);
                    let phone = identity_of(lid.as_ref().unwrap_or(&jid), &consent.account_key);
                    return Ok(Linked { device, key_index: consent.key_index, signed, phone });
                }
            }
            if refusal != AdvError::HmacMismatch {
                break;
            }
        }
        Err(refusal)
    }
}

/// The record that says whose messages are the phone's: the primary device of the account, which has its key.
fn identity_of(account: &Jid, key: &[u8; 32]) -> Write {
    let record = identity::to_record(&PublicKey::new(*key));
    Write::PutRecord {
        key: RecordKey::new(RecordKind::Identity, address(&account.to_non_ad())),
        value: record.into_bytes().into(),
    }
}
