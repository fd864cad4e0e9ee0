//! A chain that we receive by: where it is, and the seeds of messages that have not come.
//!
//! Reading a message is in two steps, so that a forged one changes nothing: [`Receiving::find`] gives the seed and
//! touches nothing, [`Receiving::take`] is called once the message has proved to be the peer's. Seeds of passed-over
//! messages are derived only then, so that a forged jump costs one hash a step.

use crate::kdf::ChainKey;
use crate::key::Secret;

/// How far ahead of its chain a message may be.
pub(crate) const MAX_JUMP: u32 = 2_000;

/// Seeds of messages that have not come, kept over all chains of a record; beyond it the oldest go. So do those that
/// are more than [`MAX_JUMP`] behind: some senders use every other number only.
pub(crate) const MAX_SKIPPED: usize = 2_000;

/// The seed of a message that has not come.
#[derive(Clone, Debug)]
pub(crate) struct Skipped {
    pub(crate) index: u32,
    pub(crate) seed: Secret,
}

/// A chain that we receive by.
#[derive(Clone, Debug)]
pub(crate) struct Receiving {
    /// The number of the message that is expected next.
    pub(crate) next: u32,
    /// The chain key at `next`. `None`: closed, only what was skipped can still be read; chains are so only when they
    /// come from a program that closes them.
    pub(crate) key: Option<Secret>,
    /// By index, ascending; all below `next`.
    pub(crate) skipped: Vec<Skipped>,
}

/// The seed of a message that was looked for, and how to take it out.
#[derive(Debug)]
pub(crate) enum Found {
    /// It had been passed over: its place in `skipped`.
    Skipped { at: usize, seed: Secret },
    /// It is ahead: the chain at its step.
    Ahead(ChainKey),
}

impl Found {
    pub(crate) fn seed(&self) -> Secret {
        match self {
            Self::Skipped { seed, .. } => seed.clone(),
            Self::Ahead(chain) => chain.seed(),
        }
    }
}

/// Why there is no seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotFound {
    /// It was taken before, or was dropped.
    Used,
    /// It is further ahead than `MAX_JUMP`, or than the work that is left.
    TooFarAhead { next: u32 },
}

impl Receiving {
    pub(crate) fn new(chain: ChainKey) -> Self {
        Self { next: chain.index, key: Some(chain.key), skipped: Vec::new() }
    }

    /// Goes on at another place; what was skipped stays.
    pub(crate) fn restart(&mut self, chain: ChainKey) {
        self.next = chain.index;
        self.key = Some(chain.key);
    }

    /// The chain at `next`.
    pub(crate) fn head(&self) -> Option<ChainKey> {
        self.key.clone().map(|key| ChainKey { key, index: self.next })
    }

    /// Whether this chain has passed `later`, or will come to it in a jump.
    pub(crate) fn leads_to(&self, later: &ChainKey) -> bool {
        let Some(steps) = later.index.checked_sub(self.next) else { return true };
        steps <= MAX_JUMP
            && self
                .head()
                .and_then(|head| head.advanced(steps))
                .is_some_and(|here| here.key.is_same(&later.key))
    }

    /// Looks for the seed of message `index`. `work` is how many steps may still be hashed for the message at hand,
    /// over all chains that are tried.
    pub(crate) fn find(&self, index: u32, work: &mut u32) -> Result<Found, NotFound> {
        let Some(steps) = index.checked_sub(self.next) else {
            let at =
                self.skipped.binary_search_by_key(&index, |one| one.index).map_err(|_| NotFound::Used)?;
            return Ok(Found::Skipped { at, seed: self.skipped[at].seed.clone() });
        };
        let too_far = NotFound::TooFarAhead { next: self.next };
        if steps > MAX_JUMP || steps > *work {
            return Err(too_far);
        }
        let head = self.head().ok_or(NotFound::Used)?;
        *work -= steps;
        head.advanced(steps).map(Found::Ahead).ok_or(too_far)
    }

    /// Takes out what was found in this chain: its seed is not to be had again. `false`, and nothing done, at the end
    /// of the chain.
    pub(crate) fn take(&mut self, found: Found) -> bool {
        match found {
            Found::Skipped { at, .. } => {
                self.skipped.remove(at);
            }
            Found::Ahead(target) => {
                let (Some(after), Some(mut at)) = (target.next(), self.head()) else { return false };
                while at.index < target.index {
                    self.skipped.push(Skipped { index: at.index, seed: at.seed() });
                    let Some(next) = at.next() else { return false };
                    at = next;
                }
                self.restart(after);
                let oldest = self.oldest();
                self.skipped.retain(|one| one.index >= oldest);
            }
        }
        true
    }

    /// The oldest message that may still come: a jump before the last that came.
    const fn oldest(&self) -> u32 {
        self.next.saturating_sub(MAX_JUMP + 1)
    }

    /// Adds seeds that another program kept of this chain, in any order; those that make no sense are left out.
    pub(crate) fn add_skipped(&mut self, skipped: Vec<Skipped>) {
        let in_reach = self.oldest()..self.next;
        self.skipped.extend(skipped.into_iter().filter(|one| in_reach.contains(&one.index)));
        self.skipped.sort_by_key(|one| one.index);
        self.skipped.dedup_by_key(|one| one.index);
    }

    /// Drops up to `excess` of the oldest skipped seeds; returns how many are still to be dropped elsewhere.
    pub(crate) fn drop_oldest(&mut self, excess: usize) -> usize {
        let here = excess.min(self.skipped.len());
        self.skipped.drain(..here);
        excess - here
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Receiving {
        Receiving::new(ChainKey { key: Secret::new([7; 32]), index: 0 })
    }

    fn take(chain: &mut Receiving, index: u32) -> Result<[u8; 32], NotFound> {
        let found = chain.find(index, &mut u32::MAX.clone())?;
        let seed = *found.seed().expose();
        assert!(chain.take(found));
        Ok(seed)
    }

    #[test]
    fn any_order_gives_the_same_seeds_once() {
        let (mut forward, mut backward) = (chain(), chain());
        let seeds: Vec<_> = (0..20).map(|index| take(&mut forward, index)).collect();
        for index in (0..20).rev() {
            assert_eq!(take(&mut backward, index), seeds[index as usize]);
            assert_eq!(take(&mut backward, index), Err(NotFound::Used));
        }
        assert!(backward.skipped.is_empty());
        assert_eq!(backward.next, 20);
    }

    #[test]
    fn a_jump_is_as_long_as_the_limit_and_no_longer() {
        assert!(take(&mut chain(), MAX_JUMP).is_ok());
        assert_eq!(take(&mut chain(), MAX_JUMP + 1), Err(NotFound::TooFarAhead { next: 0 }));
        assert_eq!(take(&mut chain(), u32::MAX), Err(NotFound::TooFarAhead { next: 0 }));
    }

    #[test]
    fn the_work_of_one_message_is_bounded_over_all_chains() {
        let mut work = 5;
        assert!(chain().find(3, &mut work).is_ok());
        assert_eq!(work, 2);
        assert!(chain().find(3, &mut work).is_err());
        assert_eq!(work, 2);
        assert!(chain().find(2, &mut work).is_ok());
        assert!(chain().find(0, &mut work).is_ok());
    }

    #[test]
    fn looking_changes_nothing() {
        let chain = chain();
        let _ = chain.find(9, &mut 100);
        assert_eq!((chain.next, chain.skipped.len()), (0, 0));
    }

    #[test]
    fn a_chain_ends_with_its_numbers() {
        let mut end = Receiving::new(ChainKey { key: Secret::new([7; 32]), index: u32::MAX });
        let found = end.find(u32::MAX, &mut 10).expect("in reach");
        assert!(!end.take(found));
        assert_eq!(end.next, u32::MAX);
    }

    #[test]
    fn a_closed_chain_has_only_what_was_skipped() {
        let mut chain = chain();
        take(&mut chain, 4).expect("ahead");
        chain.key = None;
        assert!(take(&mut chain, 2).is_ok());
        assert_eq!(take(&mut chain, 5), Err(NotFound::Used));
    }

    #[test]
    fn the_oldest_are_dropped_first() {
        let mut chain = chain();
        take(&mut chain, 4).expect("ahead");
        assert_eq!(chain.drop_oldest(3), 0);
        assert_eq!(chain.skipped.iter().map(|one| one.index).collect::<Vec<_>>(), [3]);
        assert_eq!(chain.drop_oldest(3), 2);
    }
}
