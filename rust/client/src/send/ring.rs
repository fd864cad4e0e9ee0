//! Where what was sent is kept: a ring of places, in which the newest message takes that of the oldest, and an index by
//! which one is found.
//!
//! A message makes three records, in the commit that it waits for anyway: itself, in the place of its number; the number
//! of the next one; and the part of the index that its id belongs to, with the numbers of those that are kept. What the
//! index says is believed when the message in that place has the id. So a number that is lost with its record, or comes
//! out of a backup, costs some messages their places, and gives nobody another one.

use super::{fields, fields::hash, sent::Kept};
use crate::record::{RecordBytes, RecordKey, RecordKind};

/// That of a session: two hours of a text every two seconds.
pub(super) const RING: Ring = Ring { places: 4096, parts: 128 };

/// Places of an earlier version, which gave each message that of its id. They are among those of the ring, and are
/// overwritten in its course.
const OLD_PLACES: u64 = 1024;

/// The name of the record with the next number; the parts of the index are named by theirs.
const NEXT: &str = "next";

const VERSION: u8 = 1;

#[derive(Clone, Copy, Debug)]
pub(super) struct Ring {
    /// A power of two, so that numbers may begin anew behind the last.
    places: u32,
    /// Of the index: each has a share of the messages, and is written with each of them.
    parts: u64,
}

/// Part of the index: hashes of ids, with the message's number, the oldest first.
type Part = Vec<(u64, u32)>;

impl Ring {
    /// What [`put`](Self::put) reads.
    pub(super) fn keys(self, id: &str) -> [RecordKey; 2] {
        [RecordKey::new(RecordKind::SentIndex, NEXT), self.part_of(id)]
    }

    /// The changes that keep a new message. `at` gives the records of [`keys`](Self::keys).
    pub(super) fn put<'a>(
        self,
        kept: &Kept,
        at: impl Fn(&RecordKey) -> Option<&'a [u8]>,
    ) -> [(RecordKey, RecordBytes); 3] {
        let [next, part] = self.keys(&kept.id);
        let number = at(&next).and_then(read_next).unwrap_or(0);
        let mut known = at(&part).and_then(read_part).unwrap_or_default();
        known.retain(|(_, older)| (1..self.places).contains(&number.wrapping_sub(*older)));
        known.push((hash(&kept.id), number));
        [
            (self.place(number), kept.to_record()),
            (next, [&[VERSION], &number.wrapping_add(1).to_be_bytes()[..]].concat().into()),
            (part, to_part(&known)),
        ]
    }

    /// The message with this id, if it is kept, and its place. `at` gives a record, or none yet: then it is to be asked
    /// again when the store has given those that it was asked for.
    pub(super) fn find<R: AsRef<[u8]>>(
        self,
        id: &str,
        mut at: impl FnMut(&RecordKey) -> Option<R>,
    ) -> Option<(RecordKey, Kept)> {
        let part = at(&self.part_of(id)).as_ref().and_then(|part| read_part(part.as_ref()));
        let hash = hash(id);
        let number = part.into_iter().flatten().rev().find(|(of, _)| *of == hash).map(|(_, number)| number);
        let old = RecordKey::new(RecordKind::Sent, (hash % OLD_PLACES).to_string());
        number.map(|number| self.place(number)).into_iter().chain([old]).find_map(|place| {
            let kept = Kept::read(at(&place)?.as_ref()).filter(|kept| kept.id == id)?;
            Some((place, kept))
        })
    }

    fn place(self, number: u32) -> RecordKey {
        RecordKey::new(RecordKind::Sent, (number % self.places).to_string())
    }

    fn part_of(self, id: &str) -> RecordKey {
        RecordKey::new(RecordKind::SentIndex, (hash(id) % self.parts).to_string())
    }
}

/// Version (1), number (4).
fn read_next(record: &[u8]) -> Option<u32> {
    let rest = &mut &*record;
    let version = fields::byte(rest)?;
    let number = u32::from_be_bytes(fields::bytes(rest)?);
    (version == VERSION && rest.is_empty()).then_some(number)
}

/// Version (1), then hash (8) and number (4) of each. One that is damaged is as good as none.
fn read_part(record: &[u8]) -> Option<Part> {
    let (&version, rest) = record.split_first()?;
    let (entries, rest) = rest.as_chunks::<12>();
    let read = |entry: &[u8; 12]| {
        let rest = &mut &entry[..];
        Some((u64::from_be_bytes(fields::bytes(rest)?), u32::from_be_bytes(fields::bytes(rest)?)))
    };
    if version != VERSION || !rest.is_empty() {
        return None;
    }
    entries.iter().map(read).collect()
}

fn to_part(part: &[(u64, u32)]) -> RecordBytes {
    let mut record = Vec::with_capacity(1 + 12 * part.len());
    record.push(VERSION);
    for (hash, number) in part {
        record.extend(hash.to_be_bytes());
        record.extend(number.to_be_bytes());
    }
    record.into()
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    type Store = HashMap<RecordKey, RecordBytes>;

    const SMALL: Ring = Ring { places: 16, parts: 4 };

    fn kept(id: &str, content: u32) -> Kept {
        let chat = "15550002222@s.whatsapp.net".parse().expect("a jid");
        Kept::new(id, &chat, &content.to_be_bytes()).expect("short")
    }

    fn put(ring: Ring, store: &mut Store, kept: &Kept) {
        let writes = ring.put(kept, |key| store.get(key).map(RecordBytes::expose));
        store.extend(writes);
    }

    fn find(ring: Ring, store: &Store, id: &str) -> Option<Kept> {
        ring.find(id, |key| store.get(key).map(RecordBytes::expose)).map(|(_, kept)| kept)
    }

    fn next_key() -> RecordKey {
        RecordKey::new(RecordKind::SentIndex, NEXT)
    }

    #[derive(Clone, Debug)]
    enum Op {
        /// A text with this id; its commit may not happen.
        Send {
            id: u8,
            is_durable: bool,
        },
        /// The record with the next number is damaged.
        LoseNext,
        /// A part of the index is.
        LosePart(u8),
        /// The store is copied, or the last copy is put back.
        Backup,
        Restore,
        /// The numbers are about to begin anew.
        Wrap,
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let send = (0..60_u8, prop::bool::weighted(0.9));
        let op = prop_oneof![
            60 => send.prop_map(|(id, is_durable)| Op::Send { id, is_durable }),
            1 => Just(Op::LoseNext),
            1 => (0..4_u8).prop_map(Op::LosePart),
            2 => Just(Op::Backup),
            1 => Just(Op::Restore),
            1 => Just(Op::Wrap),
        ];
        prop::collection::vec(op, 0..200)
    }

    proptest! {
        #[test]
        fn the_newest_are_found_as_they_were_and_nothing_under_another_name(ops in ops()) {
            // Id and content of what was kept, the oldest first; `None`: the index has lost it.
            let (mut store, mut sent) = (Store::new(), Vec::<Option<(u8, u32)>>::new());
            let mut backup = (store.clone(), sent.clone());
            for (content, op) in (0..).zip(ops) {
                match op {
                    Op::Send { id, is_durable } if is_durable => {
                        put(SMALL, &mut store, &kept(&id.to_string(), content));
                        sent.push(Some((id, content)));
                    }
                    Op::Send { id, .. } => {
                        put(SMALL, &mut store.clone(), &kept(&id.to_string(), content));
                    }
                    Op::LoseNext => {
                        store.insert(next_key(), vec![9].into());
                        sent.clear();
                    }
                    Op::LosePart(part) => {
                        store.insert(RecordKey::new(RecordKind::SentIndex, part.to_string()), vec![9].into());
                        let is_lost = |(id, _): &(u8, u32)| hash(&id.to_string()) % 4 == u64::from(part);
                        sent.iter_mut().for_each(|one| *one = one.filter(|one| !is_lost(one)));
                    }
                    Op::Backup => backup = (store.clone(), sent.clone()),
                    Op::Restore => (store, sent) = backup.clone(),
                    Op::Wrap => {
                        let next = [&[VERSION], &(u32::MAX - 3).to_be_bytes()[..]].concat();
                        store.insert(next_key(), next.into());
                        sent.clear();
                    }
                }
                let newest = sent.iter().rev().take(16).rev();
                let newest: HashMap<u8, u32> = newest.flatten().copied().collect();
                for id in 0..60 {
                    let found = find(SMALL, &store, &id.to_string());
                    prop_assert!(found.as_ref().is_none_or(|kept| kept.id == id.to_string()));
                    if let Some(content) = newest.get(&id) {
                        prop_assert_eq!(found, Some(kept(&id.to_string(), *content)), "{}", id);
                    }
                }
                let places = store.keys().filter(|key| key.kind == RecordKind::Sent).count();
                prop_assert!(places <= 16);
                for part in (0..4).filter_map(|part: u8| {
                    store.get(&RecordKey::new(RecordKind::SentIndex, part.to_string()))
                }) {
                    let numbers: Vec<_> =
                        read_part(part.expose()).into_iter().flatten().map(|(_, number)| number).collect();
                    let distinct: HashSet<_> = numbers.iter().collect();
                    prop_assert!(numbers.len() <= 16 && distinct.len() == numbers.len(), "{:?}", numbers);
                }
            }
        }
    }

    #[test]
    fn of_so_many_texts_each_is_found_and_the_one_before_them_is_not() {
        let mut store = Store::new();
        for n in 0..=RING.places {
            put(RING, &mut store, &kept(&format!("3EB0{n:08X}"), n));
        }
        assert_eq!(find(RING, &store, "3EB000000000"), None);
        for n in 1..=RING.places {
            let id = format!("3EB0{n:08X}");
            assert_eq!(find(RING, &store, &id), Some(kept(&id, n)));
        }
        let longest = store.values().map(|record| record.expose().len()).max();
        assert!(longest < Some(1024), "{longest:?} bytes of the index are written with each");
    }

    #[test]
    fn what_an_earlier_version_kept_is_found_until_its_place_is_taken() {
        let old = kept("3EB0AA", 7);
        let place = RecordKey::new(RecordKind::Sent, (hash("3EB0AA") % 1024).to_string());
        let mut store = Store::from([(place, old.to_record())]);
        assert_eq!(find(RING, &store, "3EB0AA"), Some(old));
        for n in 0..1024 {
            put(RING, &mut store, &kept(&format!("M{n}"), n));
        }
        assert_eq!(find(RING, &store, "3EB0AA"), None);
    }
}
