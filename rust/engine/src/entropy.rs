//! The operating system's randomness. Masks and jitter, four bytes a time, come out of one larger request: two calls of
//! the kernel for every ping were 3 % of an idle fleet's CPU. Keys are always asked for directly.

use runner_proto::entropy::Entropy;

/// What is asked for at once.
const POOL_BYTES: usize = 1024;
/// Requests up to this length are served from the pool. A WebSocket mask and a jitter fit; no key does.
const MOST_POOLED: usize = 8;

/// Random bytes from `source`, each handed out once.
pub(crate) struct Pooled<F> {
    source: F,
    pool: [u8; POOL_BYTES],
    /// Bytes of the pool that are not handed out yet: its last ones.
    left: usize,
}

/// The thread's source of randomness.
pub(crate) fn system() -> Pooled<fn(&mut [u8])> {
    Pooled::new(from_kernel)
}

fn from_kernel(bytes: &mut [u8]) {
    // Linux' getrandom does not fail once the pool is ready; a machine without randomness cannot make keys.
    #[expect(clippy::expect_used, reason = "keys from no randomness would be worse than the end")]
    getrandom::fill(bytes).expect("the operating system gives randomness");
}

impl<F: FnMut(&mut [u8])> Pooled<F> {
    pub(crate) fn new(source: F) -> Self {
        Self { source, pool: [0; POOL_BYTES], left: 0 }
    }
}

impl<F: FnMut(&mut [u8])> Entropy for Pooled<F> {
    fn fill(&mut self, bytes: &mut [u8]) {
        if bytes.len() > MOST_POOLED {
            return (self.source)(bytes);
        }
        if self.left < bytes.len() {
            (self.source)(&mut self.pool);
            self.left = POOL_BYTES;
        }
        let from = POOL_BYTES - self.left;
        if let Some(fresh) = self.pool.get_mut(from..from + bytes.len()) {
            bytes.copy_from_slice(fresh);
            fresh.fill(0);
        }
        self.left -= bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Hands out 0, 1, 2 … (modulo 251) and notes the length of each request.
    fn counting(requests: &RefCell<Vec<usize>>) -> Pooled<impl FnMut(&mut [u8])> {
        let mut next = 0;
        Pooled::new(move |bytes: &mut [u8]| {
            requests.borrow_mut().push(bytes.len());
            for byte in bytes {
                *byte = (next % 251) as u8;
                next += 1;
            }
        })
    }

    #[test]
    fn small_requests_share_one_and_no_byte_is_given_twice() {
        let requests = RefCell::default();
        let mut entropy = counting(&requests);
        let mut given = Vec::new();
        for length in [4, 4, 3, 8, 1].into_iter().cycle().take(500) {
            let mut bytes = vec![0xFF; length];
            entropy.fill(&mut bytes);
            given.extend(bytes);
        }
        // At the end of a pool up to seven bytes are left lying, never handed out again.
        let mut expected = (0..).map(|n| (n % 251) as u8);
        for byte in &given {
            assert!(expected.by_ref().take(8).any(|candidate| candidate == *byte), "in order, none twice");
        }
        assert_eq!(requests.borrow().as_slice(), [POOL_BYTES; 2]);
    }

    #[test]
    fn keys_come_straight_from_the_source_and_never_lie_in_the_pool() {
        let requests = RefCell::default();
        let mut entropy = counting(&requests);
        entropy.fill(&mut [0; 4]);
        entropy.fill(&mut [0; 32]);
        entropy.fill(&mut [0; 9]);
        assert_eq!(requests.borrow().as_slice(), [POOL_BYTES, 32, 9]);
    }

    #[test]
    fn what_was_handed_out_is_wiped() {
        let mut entropy = Pooled::new(|bytes: &mut [u8]| bytes.fill(7));
        entropy.fill(&mut [0; 5]);
        assert!(entropy.pool.starts_with(&[0, 0, 0, 0, 0, 7]));
    }

    #[test]
    fn the_kernel_gives_different_bytes() {
        let mut entropy = system();
        assert!((0..100).any(|_| entropy.u32() != entropy.u32()));
    }
}
