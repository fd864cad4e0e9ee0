//! What is kept of a message that was sent, for devices that could not read it and ask for it again; also after a restart.

use runner_proto::jid::Jid;

use super::{MAX_RESENDS, fields, groups::Member};
use crate::record::RecordBytes;

/// Longest message that is kept, bytes: a device that cannot read a longer one is not sent it again.
const MAX_CONTENT: usize = 64 * 1024;

/// Devices whose asking is counted; beyond it they are given nothing.
const MAX_ASKERS: usize = 64;

const VERSION: u8 = 2;

/// As [`VERSION`], without those who may read it: none of these went to a group.
const VERSION_WITHOUT_READERS: u8 = 1;

/// A message as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) id: String,
    /// Without device.
    pub(super) chat: Jid,
    /// Who has asked for it, by the name of its records, and how often it was sent.
    askers: Vec<(String, u8)>,
    /// Who was in the group when it was written, by what [`mark`] makes of their address.
    readers: Vec<u32>,
    /// The serialized `Message`.
    pub(super) content: Vec<u8>,
}

/// Four bytes that stand for a reader: a group of a thousand costs four kilobytes a message. That one who was not in
/// the group has the mark of one who was happens to one of 2³² ÷ members.
fn mark(reader: &Jid) -> u32 {
    (fields::hash(&reader.to_non_ad().to_string()) >> 32) as u32
}

impl Kept {
    /// A message that has just been encrypted; `None` when it is too long to be kept.
    pub(super) fn new(id: &str, chat: &Jid, content: &[u8]) -> Option<Self> {
        let is_kept = content.len() <= MAX_CONTENT && id.len() <= usize::from(u8::MAX);
        is_kept.then(|| Self {
            id: id.to_owned(),
            chat: chat.clone(),
            askers: Vec::new(),
            readers: Vec::new(),
            content: content.to_vec(),
        })
    }

    /// The same of a message to a group with these members.
    pub(super) fn for_group(mut self, members: &[Member]) -> Self {
        self.readers = members.iter().map(|member| mark(&member.jid)).collect();
        self
    }

    /// Whether somebody was in the group when it was written.
    pub(super) fn was_for(&self, member: &Member) -> bool {
        [Some(&member.jid), member.other.as_ref()]
            .into_iter()
            .flatten()
            .any(|jid| self.readers.contains(&mark(jid)))
    }

    /// Reads a record; one that is damaged is as good as none.
    pub(super) fn read(record: &[u8]) -> Option<Self> {
        let rest = &mut &*record;
        let version = fields::byte(rest)?;
        if ![VERSION, VERSION_WITHOUT_READERS].contains(&version) {
            return None;
        }
        let id = fields::text(rest)?.to_owned();
        let chat = fields::text(rest)?.parse().ok()?;
        let count = fields::byte(rest)?;
        let askers = (0..count)
            .map(|_| Some((fields::text(rest)?.to_owned(), fields::byte(rest)?)))
            .collect::<Option<_>>()?;
        let count = if version == VERSION { u16::from_be_bytes(fields::bytes(rest)?) } else { 0 };
        let readers =
            (0..count).map(|_| Some(u32::from_be_bytes(fields::bytes(rest)?))).collect::<Option<_>>()?;
        Some(Self { id, chat, askers, readers, content: rest.to_vec() })
    }

    /// Version (1), id, chat, count of askers (1), each with how often (1), count of readers (2), their marks (4 each),
    /// content; a text has its length (1) in front.
    pub(super) fn to_record(&self) -> RecordBytes {
        let mut record = Vec::with_capacity(self.content.len() + 64);
        record.push(VERSION);
        fields::put_text(&mut record, &self.id);
        fields::put_text(&mut record, &self.chat.to_string());
        record.push(self.askers.len() as u8);
        for (name, times) in &self.askers {
            fields::put_text(&mut record, name);
            record.push(*times);
        }
        record.extend((self.readers.len() as u16).to_be_bytes());
        record.extend(self.readers.iter().flat_map(|mark| mark.to_be_bytes()));
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
    fn whoever_was_in_the_group_may_ask_under_either_address() {
        let member = |jid: &str, other: Option<&str>| Member {
            jid: jid.parse().expect("a jid"),
            other: other.map(|jid| jid.parse().expect("a jid")),
            is_admin: false,
        };
        let written =
            kept().for_group(&[member("777@lid", None), member("15550003333@s.whatsapp.net", None)]);
        let written = Kept::read(written.to_record().expose()).expect("as it was");
        assert!(written.was_for(&member("777@lid", None)));
        assert!(written.was_for(&member("888@lid", Some("15550003333@s.whatsapp.net"))));
        assert!(!written.was_for(&member("888@lid", Some("15550004444@s.whatsapp.net"))));
    }

    #[test]
    fn what_an_earlier_version_kept_is_read() {
        let old = [&b"\x01\x01A\x1a"[..], b"15550002222@s.whatsapp.net", b"\0\x0a\x02hi"].concat();
        let read = Kept::read(&old).expect("a message");
        assert_eq!((read.id.as_str(), &read.content[..]), ("A", &b"\x0a\x02hi"[..]));
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        let chat = "1@s.whatsapp.net".parse().expect("a jid");
        assert!(Kept::new("A", &chat, &vec![0; MAX_CONTENT]).is_some());
        assert!(Kept::new("A", &chat, &vec![0; MAX_CONTENT + 1]).is_none());
    }
}
