//! Between the words of the client and those of the store, which do not know each other.

use runner_client::{Content, DeviceKeys, DeviceState, LinkedDevice, RecordKey, StoredRecord, Write};
use runner_proto::cert::CachedServerKey;
use runner_proto::counters::Counters;
use runner_proto::noise::KeyPair;
use runner_store::{Credentials, Device, Linked, Secret32, ServerChain, SignalRecord};

/// A client's write as the store's.
pub(crate) fn store_write(write: Write) -> runner_store::Write {
    match write {
        Write::Inbox { chat, sender, message_id, stanza, content, received_unix_ms } => {
            let content = match content {
                Content::Plain(bytes) => runner_store::Content::Plain(bytes),
                Content::Nothing => runner_store::Content::Nothing,
                Content::Failed { why, asks } => runner_store::Content::Failed { why: why.into(), asks },
            };
            runner_store::Write::Inbox { chat, sender, message_id, stanza, content, received_unix_ms }
        }
        Write::PutRecord { key, value } => {
            runner_store::Write::PutRecord { key: store_key(key), value: value.into_bytes().into() }
        }
        Write::RemoveRecord(key) => runner_store::Write::RemoveRecord(store_key(key)),
        Write::DeadLetter { sender, message_id, frame, received_unix_ms } => {
            runner_store::Write::DeadLetter { sender, message_id, frame, received_unix_ms }
        }
        Write::RoutingInfo(bytes) => runner_store::Write::RoutingInfo(bytes),
        Write::ServerChain(chain) => runner_store::Write::ServerChain(ServerChain {
            raw: chain.raw,
            leaf_key: chain.leaf_key,
            not_before: chain.not_before,
            not_after: chain.not_after,
        }),
        Write::ForgetServerChain => runner_store::Write::ForgetServerChain,
        Write::Lid(lid) => runner_store::Write::Lid(lid),
        Write::Device(device) => {
            let linked = Linked { credentials: credentials(*device), keys: Vec::new() };
            runner_store::Write::Device(Box::new(linked))
        }
    }
}

/// A device that a phone has just linked, as the store keeps it.
fn credentials(device: LinkedDevice) -> Credentials {
    let secret = |pair: &KeyPair| Secret32::from(*pair.secret());
    Credentials {
        noise_secret: secret(&device.noise),
        identity_secret: secret(&device.identity),
        signed_pre_key_secret: secret(&device.signed_pre_key),
        adv_secret: Secret32::from(*device.adv_secret.expose()),
        jid: device.jid,
        lid: device.lid,
        push_name: device.push_name,
        platform: device.platform,
        registration_id: device.registration_id,
        signed_pre_key_id: device.signed_pre_key_id,
        signed_pre_key_signature: device.signed_pre_key_signature,
        account: Some(device.account),
    }
}

/// A client's name of a record as the store's.
pub(crate) fn store_key(key: RecordKey) -> runner_store::RecordKey {
    runner_store::RecordKey { kind: key.kind.slug(), id: key.id }
}

/// A stored record as a client wants it.
pub(crate) fn client_record(record: SignalRecord) -> StoredRecord {
    StoredRecord { value: record.value.expose().to_vec().into(), is_imported: record.is_imported }
}

/// A stored device as a client wants it.
///
/// # Errors
/// The stored JID is not one of a device, in words.
pub(crate) fn client_device(
    device: &Device,
    version: [u32; 3],
    resume: bool,
    counters: Counters,
) -> Result<DeviceState, &'static str> {
    let credentials = &device.credentials;
    let (username, number) =
        login_numbers(&credentials.jid).ok_or("the stored jid is not one of a device")?;
    let server_key = device.server_chain.as_ref().filter(|_| resume).map(|chain| CachedServerKey {
        key: chain.leaf_key,
        not_before: chain.not_before,
        not_after: chain.not_after,
    });
    Ok(DeviceState {
        noise: KeyPair::from_secret(*credentials.noise_secret.expose()),
        username,
        device: number,
        lid: credentials.lid.clone(),
        push_name: credentials.push_name.clone(),
        routing_info: device.routing_info.clone(),
        server_key,
        keys: DeviceKeys {
            registration_id: credentials.registration_id,
            identity_secret: (*credentials.identity_secret.expose()).into(),
            signed_pre_key_id: credentials.signed_pre_key_id,
            signed_pre_key_secret: (*credentials.signed_pre_key_secret.expose()).into(),
            signed_pre_key_signature: credentials.signed_pre_key_signature,
            account: credentials.account.clone(),
        },
        has_ciphertexts: device.has_ciphertexts,
        version,
        counters,
    })
}

/// `user[.agent][:device]@server` with a numeric user: user and device.
fn login_numbers(jid: &str) -> Option<(u64, u32)> {
    let (local, _) = jid.split_once('@')?;
    let (user, device) = local.split_once(':').unwrap_or((local, "0"));
    let user = user.split_once('.').map_or(user, |(user, _)| user);
    Some((user.parse().ok()?, device.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_numbers_come_from_the_jid() {
        assert_eq!(login_numbers("15550001111:3@s.whatsapp.net"), Some((15_550_001_111, 3)));
        assert_eq!(login_numbers("15550001111.0:12@s.whatsapp.net"), Some((15_550_001_111, 12)));
        assert_eq!(login_numbers("15550001111@s.whatsapp.net"), Some((15_550_001_111, 0)));
        for broken in ["", "x@s.whatsapp.net", "1:x@s.whatsapp.net", "15550001111:3", ":3@x"] {
            assert_eq!(login_numbers(broken), None, "{broken}");
        }
    }
}
