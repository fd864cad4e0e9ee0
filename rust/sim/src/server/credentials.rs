//! Credentials of the fleet, in the directories that Baileys' `useMultiFileAuthState` reads.
//!
//! Complete enough that the real library logs in with them and that an importer finds everything: true signatures, the
//! account's part of the device identity, one pre-key. Deterministic: the same seed writes the same bytes.

use std::fs;
use std::io::Write as _;
use std::num::NonZero;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost::Message;
use serde_json::{Value, json};

use super::StartError;
use crate::core::{DEVICE, Fleet, Keys, lid_user};

/// When every device of the fleet was paired, Unix seconds.
const PAIRED_AT: u64 = 1_700_000_000;
/// Prefix of Signal public keys in messages and signatures.
const KEY_TYPE: u8 = 5;

/// `ADVDeviceIdentity` (docs/protocol.md, "Certificate chain").
#[derive(Clone, PartialEq, Message)]
struct DeviceIdentity {
    #[prost(uint32, optional, tag = "1")]
    raw_id: Option<u32>,
    #[prost(uint64, optional, tag = "2")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "3")]
    key_index: Option<u32>,
}

/// The name of a device's directory.
pub(super) fn name(index: u32) -> String {
    format!("sim-{:05}", u64::from(index) + 1)
}

/// Writes a directory for each device that has none yet; returns the parent.
///
/// Seven key pairs and three signatures a device are most of a start, so all cores share the work.
pub(super) fn write_all(directory: &Path, fleet: Fleet) -> Result<PathBuf, StartError> {
    let parent = directory.join("credentials");
    create_directory(&parent)?;
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let work = |worker: usize| {
            let parent = &parent;
            let mut own = (0..fleet.len()).skip(worker).step_by(workers);
            scope.spawn(move || own.try_for_each(|index| write_device(parent, fleet, index)))
        };
        // All of them are started before the first is waited for.
        let working: Vec<_> = (0..workers).map(work).collect();
        working.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    Ok(parent)
}

fn write_device(parent: &Path, fleet: Fleet, index: u32) -> Result<(), StartError> {
    let own = parent.join(name(index));
    // What is there may have been used and changed by a client since; it stays.
    if own.join("creds.json").exists() {
        return Ok(());
    }
    create_directory(&own)?;
    write(&own.join("pre-key-1.json"), &keys_json(&fleet.keys("pre-key 1", index)))?;
    write(&own.join("creds.json"), &credentials(fleet, index))
}

/// The contents of `creds.json`.
pub(super) fn credentials(fleet: Fleet, index: u32) -> Value {
    let username = Fleet::username(index);
    let identity = fleet.keys("identity", index);
    let signed_pre_key = fleet.keys("signed pre-key", index);
    let account = fleet.keys("account", index);
    let sign = |keys: &Keys, label: &str, parts: &[&[u8]]| {
        buffer(&runner_xeddsa::sign(&keys.secret, &parts.concat(), &fleet.nonce(label, index)))
    };
    let details = DeviceIdentity { raw_id: Some(index), timestamp: Some(PAIRED_AT), key_index: Some(1) }
        .encode_to_vec();
    json!({
        "noiseKey": keys_json(&fleet.noise_keys(index)),
        "pairingEphemeralKeyPair": keys_json(&fleet.keys("pairing", index)),
        "signedIdentityKey": keys_json(&identity),
        "signedPreKey": {
            "keyPair": keys_json(&signed_pre_key),
            "signature": sign(&identity, "signed pre-key signature", &[&[KEY_TYPE], &signed_pre_key.public]),
            "keyId": 1,
        },
        "registrationId": fleet.registration_id(index),
        "advSecretKey": BASE64.encode(fleet.bytes("adv secret", index)),
        "processedHistoryMessages": [],
        "nextPreKeyId": 2,
        "firstUnuploadedPreKeyId": 2,
        "accountSyncCounter": 1,
        "accountSettings": { "unarchiveChats": false },
        "registered": true,
        "me": {
            "id": format!("{username}:{DEVICE}@s.whatsapp.net"),
            "lid": format!("{}:{DEVICE}@lid", lid_user(username)),
            "name": name(index),
        },
        "account": {
            "details": buffer(&details),
            "accountSignatureKey": buffer(&account.public),
            "accountSignature": sign(&account, "account signature", &[&[6, 0], &details, &identity.public]),
            "deviceSignature":
                sign(&identity, "device signature", &[&[6, 1], &details, &identity.public, &account.public]),
        },
        "signalIdentities": [{
            "identifier": { "name": format!("{}:0@lid", lid_user(username)), "deviceId": 0 },
            "identifierKey": buffer(&[&[KEY_TYPE], &account.public[..]].concat()),
        }],
        "platform": "android",
    })
}

fn keys_json(keys: &Keys) -> Value {
    json!({ "private": buffer(&keys.secret), "public": buffer(&keys.public) })
}

/// Bytes as Baileys' `BufferJSON` writes them.
fn buffer(bytes: &[u8]) -> Value {
    json!({ "type": "Buffer", "data": BASE64.encode(bytes) })
}

fn create_directory(path: &Path) -> Result<(), StartError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StartError::File { path: path.to_owned(), source })
}

fn write(path: &Path, value: &Value) -> Result<(), StartError> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(value.to_string().as_bytes()))
        .map_err(|source| StartError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: &Value) -> Vec<u8> {
        assert_eq!(value["type"], "Buffer");
        BASE64.decode(value["data"].as_str().expect("text")).expect("base64")
    }

    fn array<const N: usize>(value: &Value) -> [u8; N] {
        bytes(value).try_into().expect("length")
    }

    #[test]
    fn the_signatures_of_a_device_verify() {
        let made = credentials(Fleet::new(7, 3), 2);
        let identity: [u8; 32] = array(&made["signedIdentityKey"]["public"]);
        let account: [u8; 32] = array(&made["account"]["accountSignatureKey"]);
        let details = bytes(&made["account"]["details"]);
        let pre_key = [&[5], &bytes(&made["signedPreKey"]["keyPair"]["public"])[..]].concat();
        assert!(runner_xeddsa::verify(&identity, &pre_key, &array(&made["signedPreKey"]["signature"])));
        let by_account = [&[6, 0], &details[..], &identity].concat();
        assert!(runner_xeddsa::verify(&account, &by_account, &array(&made["account"]["accountSignature"])));
        let by_device = [&[6, 1], &details[..], &identity, &account].concat();
        assert!(runner_xeddsa::verify(&identity, &by_device, &array(&made["account"]["deviceSignature"])));
    }

    #[test]
    fn the_same_seed_writes_the_same_bytes() {
        let of = |seed| credentials(Fleet::new(seed, 1), 0).to_string();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
