//! The ciphertexts of a message to a group: one for all, and our sender key for those who are told it.

use runner_proto::{entropy::Entropy, jid::Jid, node::Writer};
use runner_signal::group;

use super::{
    Copy, Sealed, Sealing, body, identity_for, write_device_identity, write_enc, write_participants,
};
use crate::{
    Write,
    receive::{OwnKeys, mappings},
    record::{RecordBytes, RecordKey, Records},
    send::{
        Again, Job, Purpose,
        holders::{self, Holders},
        plan::{InGroup, Target, Telling},
        sent::Kept,
    },
};

/// Our sender key, encrypted for some devices.
#[derive(Debug)]
pub(in crate::send) struct Told {
    pub(in crate::send) copies: Vec<Copy>,
    pub(in crate::send) writes: Vec<Write>,
    pub(in crate::send) new_identities: Vec<Jid>,
}

/// Encrypts our sender key for some devices of a group, a new one if it has to be. The changed records are in `records`
/// afterwards. `None`: the record of the key is damaged.
pub(in crate::send) fn tell(
    job: &Job,
    telling: &Telling,
    keys: &OwnKeys,
    records: &mut Records,
    entropy: &mut dyn Entropy,
) -> Option<Told> {
    let mut sealing = Sealing::new(job, keys, records, entropy);
    let (key, holders) = sealing.sender_key(telling)?;
    let copies = sealing.distributed(telling, &key)?;
    if telling.is_new {
        sealing.put_key(telling, key, &holders);
    }
    let (writes, new_identities) = sealing.finish();
    Some(Told { copies, writes, new_identities })
}

/// Encrypts a message for a group: `job.copies` are those who were told our sender key before, and leave with it. Also
/// whom it tells the key, by the name of their records. `None`: the record of the key is damaged.
pub(in crate::send) fn in_group(
    job: &Job,
    plan: &InGroup,
    keys: &OwnKeys,
    records: &mut Records,
    entropy: &mut dyn Entropy,
) -> Option<(Sealed, Vec<String>)> {
    let InGroup { telling, kept, is_lid, phash, .. } = plan;
    let mut sealing = Sealing::new(job, keys, records, entropy);
    let (key, mut holders) = sealing.sender_key(telling)?;
    // The key as it is before this message, so that whoever gets it can read this message.
    let copies = sealing.distributed(telling, &key)?;
    let padded = body::padded(&job.content, sealing.entropy);
    let random = &mut |bytes: &mut [u8]| sealing.entropy.fill(bytes);
    let encrypted = group::encrypt(Some(key.expose()), &padded, random).ok()?;
    let stays = |copy: &&Copy| !telling.is_new && !telling.gone.contains(&copy.device);
    let copies: Vec<_> = job.copies.iter().filter(stays).chain(&copies).collect();
    let told: Vec<_> = copies.iter().map(|copy| copy.name.clone()).collect();
    told.iter().for_each(|name| holders.tell(name));
    sealing.put_key(telling, encrypted.record.into_bytes().into(), &holders);
    if let Some(kept) = kept {
        sealing.keep(kept);
    }
    let (writes, new_identities) = sealing.finish();
    let stanza = stanza(job, &copies, &encrypted.message, *is_lid, phash, keys);
    Some((Sealed { stanza, writes, new_identities }, told))
}

/// Encrypts a group's message for one device that could not read it, with our sender key as it is now.
pub(in crate::send) fn again_in_group(
    job: &Job,
    (target, kept, key): (&Target, &Kept, Option<&RecordKey>),
    is_another: bool,
    keys: &OwnKeys,
    records: &mut Records,
    entropy: &mut dyn Entropy,
) -> Option<Sealed> {
    let Purpose::Again(again) = &job.purpose else { return None };
    let mut sealing = Sealing::new(job, keys, records, entropy);
    let mut plain = Vec::new();
    if let Some(key) = key {
        let record = sealing.records.peek(key)?;
        plain = body::key_distribution(&job.chat, &group::distribution(record).ok()?);
    }
    plain.extend_from_slice(&kept.content);
    let message = sealing.copy(target, &plain)?;
    sealing.note_mapping(target);
    let holders_key = holders::key(&job.chat);
    if is_another {
        // Whoever had that address has our sender key: the next message has a new one.
        sealing.put(holders_key, Holders::nobody(holders::NO_KEY).to_record());
    } else if key.is_some()
        && let Some(mut holders) = sealing.records.peek(&holders_key).and_then(Holders::read)
    {
        holders.tell(&target.name);
        sealing.put(holders_key, holders.to_record());
    }
    sealing.keep(kept);
    let (writes, new_identities) = sealing.finish();
    let copy = Copy { device: target.device.clone(), name: target.name.clone(), message };
    Some(Sealed { stanza: again_stanza(job, again, &copy, keys), writes, new_identities })
}

impl Sealing<'_> {
    /// The record of our sender key, and who may have it; new ones if it has to be.
    fn sender_key(&mut self, telling: &Telling) -> Option<(RecordBytes, Holders)> {
        if telling.is_new {
            let random = &mut |bytes: &mut [u8]| self.entropy.fill(bytes);
            let key: RecordBytes = group::create(random).into_bytes().into();
            let holders = Holders::nobody(group::own_key_id(key.expose())?);
            return Some((key, holders));
        }
        let key = RecordBytes::from(self.records.peek(&telling.key)?.to_vec());
        let holders = self.records.peek(&holders::key(&self.job.chat)).and_then(Holders::read)?;
        Some((key, holders))
    }

    /// Copies with the key for those who are told it; who has no session, and no keys that are any good, gets none.
    fn distributed(&mut self, telling: &Telling, key: &RecordBytes) -> Option<Vec<Copy>> {
        let distribution = group::distribution(key.expose()).ok()?;
        let message = body::key_distribution(&self.job.chat, &distribution);
        let mut copies = Vec::with_capacity(telling.targets.len());
        for target in &telling.targets {
            if let Some(sealed) = self.copy(target, &message) {
                self.note_mapping(target);
                let (device, name) = (target.device.clone(), target.name.clone());
                copies.push(Copy { device, name, message: sealed });
            }
        }
        Some(copies)
    }

    fn put_key(&mut self, telling: &Telling, key: RecordBytes, holders: &Holders) {
        self.put(telling.key.clone(), key);
        self.put(holders::key(&self.job.chat), holders.to_record());
    }

    /// Writes down that the device's two addresses belong together, by which its records are named.
    fn note_mapping(&mut self, target: &Target) {
        let Some(other) = &target.other else { return };
        for (key, value) in mappings(&target.device, other) {
            if self.records.peek(&key) != Some(&value) {
                self.put(key, value.into());
            }
        }
    }
}

/// `<message>` with a ciphertext for all, and a copy for each device that is told our sender key.
fn stanza(job: &Job, copies: &[&Copy], message: &[u8], is_lid: bool, phash: &str, keys: &OwnKeys) -> Vec<u8> {
    let identity = identity_for(copies.iter().copied(), keys);
    let ciphertexts: usize = copies.iter().map(|copy| copy.message.bytes.len() + 64).sum();
    let mut out = Vec::with_capacity(message.len() + ciphertexts + identity.map_or(0, <[u8]>::len) + 192);
    let writer = &mut Writer::new(&mut out);
    writer.node("message", 5, true);
    writer.attr("id", &job.id);
    writer.attr("type", "text");
    writer.attr_jid("to", &job.chat);
    writer.attr("addressing_mode", if is_lid { "lid" } else { "pn" });
    writer.attr("phash", phash);
    writer.children(1 + usize::from(!copies.is_empty()) + usize::from(identity.is_some()));
    if !copies.is_empty() {
        write_participants(writer, copies.iter().copied());
    }
    writer.node("enc", 2, true);
    writer.attr("v", "2");
    writer.attr("type", "skmsg");
    writer.bytes(message);
    write_device_identity(writer, identity);
    out
}

/// `<message>` for the one device of the group that asked for it.
fn again_stanza(job: &Job, again: &Again, copy: &Copy, keys: &OwnKeys) -> Vec<u8> {
    let identity = identity_for([copy], keys);
    let mut out = Vec::with_capacity(copy.message.bytes.len() + 512);
    let writer = &mut Writer::new(&mut out);
    writer.node("message", 4, true);
    writer.attr("id", &job.id);
    writer.attr("type", "text");
    writer.attr_jid("to", &job.chat);
    writer.attr_jid("participant", &copy.device);
    writer.children(1 + usize::from(identity.is_some()));
    write_enc(writer, &copy.message, Some(again.count));
    write_device_identity(writer, identity);
    out
}
