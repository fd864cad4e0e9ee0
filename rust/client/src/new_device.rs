//! A device that no phone has linked yet: its keys, what it registers with, and what becomes of it.

use runner_proto::{
    adv::Consent,
    entropy::Entropy,
    jid::Jid,
    noise::KeyPair,
    payload::{KEY_TYPE, Registration, registration_payload},
};

use crate::{DeviceKeys, Secret, effect::LinkedDevice};

/// The id of the first signed pre-key, as every client numbers it.
const SIGNED_PRE_KEY_ID: u32 = 1;

/// The keys of a device to be; none of them is kept anywhere until a phone has linked it.
#[derive(Clone, Debug)]
pub struct NewDevice {
    noise: KeyPair,
    identity: KeyPair,
    signed_pre_key: KeyPair,
    signed_pre_key_signature: [u8; 64],
    registration_id: u32,
    adv_secret: Secret,
}

impl NewDevice {
    /// Fresh keys; `entropy` must be good enough for them.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        let identity = key_pair(entropy);
        let signed_pre_key = key_pair(entropy);
        let mut nonce = [0; 64];
        entropy.fill(&mut nonce);
        let signed = [&[KEY_TYPE][..], signed_pre_key.public()].concat();
        let mut adv_secret = [0; 32];
        entropy.fill(&mut adv_secret);
        Self {
            noise: key_pair(entropy),
            signed_pre_key_signature: runner_xeddsa::sign(identity.secret(), &signed, &nonce),
            identity,
            signed_pre_key,
            // 14 bits, as the web client has them, and never 0.
            registration_id: (entropy.u32() & 0x3fff).max(1),
            adv_secret: Secret::from(adv_secret),
        }
    }

    pub(crate) fn noise(&self) -> &KeyPair {
        &self.noise
    }

    pub(crate) fn identity(&self) -> &KeyPair {
        &self.identity
    }

    pub(crate) fn adv_secret(&self) -> &Secret {
        &self.adv_secret
    }

    /// What messages to it will be opened with.
    pub(crate) fn keys(&self) -> DeviceKeys {
        DeviceKeys {
            registration_id: self.registration_id,
            identity_secret: (*self.identity.secret()).into(),
            signed_pre_key_id: SIGNED_PRE_KEY_ID,
            signed_pre_key_secret: (*self.signed_pre_key.secret()).into(),
            signed_pre_key_signature: self.signed_pre_key_signature,
            account: None,
        }
    }

    pub(crate) fn payload(&self, version: [u32; 3]) -> Vec<u8> {
        let registration = Registration {
            registration_id: self.registration_id,
            identity: *self.identity.public(),
            signed_pre_key_id: SIGNED_PRE_KEY_ID,
            signed_pre_key: *self.signed_pre_key.public(),
            signed_pre_key_signature: self.signed_pre_key_signature,
        };
        registration_payload(version, &registration)
    }

    /// The device that `consent` made of it, for the store, without what the server calls it beside its JID.
    pub(crate) fn linked(
        &self,
        jid: &Jid,
        adv_secret: Secret,
        consent: &Consent,
        device_signature: &[u8; 64],
    ) -> LinkedDevice {
        LinkedDevice {
            jid: jid.to_string(),
            lid: None,
            push_name: None,
            platform: None,
            registration_id: self.registration_id,
            noise: self.noise.clone(),
            identity: self.identity.clone(),
            signed_pre_key_id: SIGNED_PRE_KEY_ID,
            signed_pre_key: self.signed_pre_key.clone(),
            signed_pre_key_signature: self.signed_pre_key_signature,
            adv_secret,
            account: consent.encode(device_signature, true),
        }
    }
}

pub(crate) fn key_pair(entropy: &mut dyn Entropy) -> KeyPair {
    let mut secret = [0; 32];
    entropy.fill(&mut secret);
    KeyPair::from_secret(secret)
}
