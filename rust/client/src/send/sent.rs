//! What is kept of a message that was sent, for devices that could not read it and ask for it again; also after a restart.
//!
//! Each message has one of a fixed number of places, by its id, and the newest of a place stays. So it is bounded without
//! any order to keep, and is committed with the session records anyway: after 50 more messages one of twenty is gone.

use runner_proto::jid::Jid;

use super::MAX_RESENDS;
use crate::record::{RecordBytes, RecordKey, RecordKind};

/// Places of a session.
const PLACES: u64 = 1024;

/// Longest message that is kept, bytes: a device that cannot read a longer one is not sent it again.
const MAX_CONTENT: usize = 64 * 1024;

/// Devices whose asking is counted; beyond it they are given nothing.
const MAX_ASKERS: usize = 64;

const VERSION: u8 = 1;

/// A message as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) id: String,
    /// Without device.
    pub(super) chat: Jid,
    /// Who has asked for it, by the name of its records, and how often it was sent.
    askers: Vec<(String, u8)>,
    /// The serialized `Message`.
    pub(super) content: Vec<u8>,
}

/// The name of a message's place.
pub(super) fn key(id: &str) -> RecordKey {
    // FNV-1a: places need an even spread and no secret.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    RecordKey::new(RecordKind::Sent, (hash % PLACES).to_string())
}

impl Kept {
    /// A message that has just been encrypted; `None` when it is too long to be kept.
    pub(super) fn new(id: &str, chat: &Jid, content: &[u8]) -> Option<Self> {
        let is_kept = content.len() <= MAX_CONTENT && id.len() <= usize::from(u8::MAX);
        is_kept.then(|| Self {
            id: id.to_owned(),
            chat: chat.clone(),
            askers: Vec::new(),
            content: content.to_vec(),
        })
    }

    /// Reads a record; one that is damaged is as good as none.
    pub(super) fn read(record: &[u8]) -> Option<Self> {
        let mut rest = record;
        if byte(&mut rest)? != VERSION {
            return None;
        }
        let id = text(&mut rest)?.to_owned();
        let chat = text(&mut rest)?.parse().ok()?;
        let count = byte(&mut rest)?;
        let askers = (0..count)
            .map(|_| Some((text(&mut rest)?.to_owned(), byte(&mut rest)?)))
            .collect::<Option<_>>()?;
        Some(Self { id, chat, askers, content: rest.to_vec() })
    }

    /// Version (1), id, chat, count of askers (1), each with how often (1), content; a text has its length (1) in front.
    pub(super) fn to_record(&self) -> RecordBytes {
        let mut record = Vec::with_capacity(self.content.len() + 64);
        let put = |record: &mut Vec<u8>, text: &str| {
            let text = text.as_bytes().get(..usize::from(u8::MAX)).unwrap_or(text.as_bytes());
            record.push(text.len() as u8);
            record.extend_from_slice(text);
        };
        record.push(VERSION);
        put(&mut record, &self.id);
        put(&mut record, &self.chat.to_string());
        record.push(self.askers.len() as u8);
        for (name, times) in &self.askers {
            put(&mut record, name);
            record.push(*times);
        }
        record.extend_from_slice(&self.content);
        record.into()
    }

    /// The same when it is sent again to a device; `None` when that device has had its share.
    pub(super) fn counted(mut self, asker: &str) -> Option<Self> {
        let is_full = self.askers.len() >= MAX_ASKERS;
        match self.askers.iter_mut().find(|(name, _)| name == asker) {
            Some((_, times)) if *times >= MAX_RESENDS => return None,
            Some((_, times)) => *times += 1,
            None if is_full => return None,
            None => self.askers.push((asker.to_owned(), 1)),
        }
        Some(self)
    }
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (&byte, behind) = rest.split_first()?;
    *rest = behind;
    Some(byte)
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let len = usize::from(byte(rest)?);
    let (text, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let chat = "15550002222@s.whatsapp.net".parse().expect("a jid");
        Kept::new("3EB0AA", &chat, b"\x0a\x02hi").expect("short")
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_a_cut_one_is_none() {
        let kept = kept().counted("777_1.3").and_then(|kept| kept.counted("777_1.0")).expect("counted");
        let record = kept.to_record();
        assert_eq!(Kept::read(record.expose()).as_ref(), Some(&kept));
        let head = record.expose().len() - kept.content.len();
        for end in 0..head {
            assert_eq!(Kept::read(&record.expose()[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn a_device_is_sent_a_message_again_five_times_and_few_devices_are() {
        let mut kept = kept();
        for _ in 0..MAX_RESENDS {
            kept = kept.counted("a.1").expect("within the bound");
        }
        assert_eq!(kept.clone().counted("a.1"), None);
        for n in 0..MAX_ASKERS - 1 {
            kept = kept.counted(&format!("b.{n}")).expect("within the bound");
        }
        assert_eq!(kept.clone().counted("c.1"), None);
        assert!(kept.counted("b.0").is_some());
    }

    #[test]
    fn messages_spread_over_the_places() {
        let places: std::collections::HashSet<_> =
            (0..4096).map(|n| key(&format!("3EB0{n:08X}")).id).collect();
        assert!(places.len() > 900, "{}", places.len());
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        let chat = "1@s.whatsapp.net".parse().expect("a jid");
        assert!(Kept::new("A", &chat, &vec![0; MAX_CONTENT]).is_some());
        assert!(Kept::new("A", &chat, &vec![0; MAX_CONTENT + 1]).is_none());
    }
}
