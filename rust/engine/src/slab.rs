//! Connections by slot. A key carries the slot's generation, so that what arrives late for a connection that is
//! gone (a readiness event, a store completion, a dial result) finds nothing instead of its successor.

/// Names one connection for as long as the thread lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    generation: u32,
}

impl Key {
    /// As a poll token: the generation above the slot.
    pub(crate) fn to_token(self) -> mio::Token {
        mio::Token((self.generation as usize) << 32 | self.slot as usize)
    }

    pub(crate) fn from_token(token: mio::Token) -> Self {
        Self { slot: token.0 as u32, generation: (token.0 >> 32) as u32 }
    }
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> Key {
        if let Some(slot) = self.free.pop()
            && let Some(entry) = self.entries.get_mut(slot as usize)
        {
            entry.value = Some(value);
            return Key { slot, generation: entry.generation };
        }
        let slot = self.entries.len() as u32;
        self.entries.push(Entry { generation: 0, value: Some(value) });
        Key { slot, generation: 0 }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.slot as usize)?;
        if entry.generation == key.generation { entry.value.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.get_mut(key.slot as usize)?;
        if entry.generation != key.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.slot);
        Some(value)
    }

    /// The key of whatever lives in `slot` now.
    pub(crate) fn key_at(&self, slot: u32) -> Option<Key> {
        let entry = self.entries.get(slot as usize)?;
        entry.value.is_some().then_some(Key { slot, generation: entry.generation })
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        (0..self.entries.len() as u32).filter_map(|slot| self.key_at(slot))
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (Key, &T)> {
        (0..).zip(&self.entries).filter_map(|(slot, entry)| {
            let key = Key { slot, generation: entry.generation };
            Some((key, entry.value.as_ref()?))
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|entry| entry.value.as_ref())
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_removed_value_finds_nothing_even_when_the_slot_is_used_again() {
        let mut slab = Slab::default();
        let old = slab.insert("old");
        assert_eq!(slab.remove(old), Some("old"));
        let new = slab.insert("new");
        assert_eq!(new.slot, old.slot);
        assert_eq!(slab.get_mut(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.get_mut(new), Some(&mut "new"));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn a_token_names_the_same_key() {
        let mut slab = Slab::default();
        let first = slab.insert(1);
        slab.remove(first);
        let second = slab.insert(2);
        assert_eq!(Key::from_token(second.to_token()), second);
        assert_ne!(second.to_token(), first.to_token());
    }
}
