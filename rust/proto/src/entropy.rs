//! Randomness as an argument: the driver brings the operating system's, tests bring a seeded one.

/// A source of random bytes, good enough for keys when the driver's is.
pub trait Entropy {
    /// Overwrites all of `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);

    /// A uniform 32-bit number.
    fn u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        u32::from_be_bytes(bytes)
    }

    /// A number in `[0, n)`, or 0 when `n` is 0. The bias of at most `n / 2^32` is harmless for jitter,
    /// which is all it is for.
    fn below(&mut self, n: u32) -> u32 {
        let product = u64::from(self.u32()) * u64::from(n);
        u32::try_from(product >> 32).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u32);

    impl Entropy for Fixed {
        fn fill(&mut self, bytes: &mut [u8]) {
            for (byte, value) in bytes.iter_mut().zip(self.0.to_be_bytes().into_iter().cycle()) {
                *byte = value;
            }
        }
    }

    #[test]
    fn below_covers_the_range_and_never_reaches_its_end() {
        assert_eq!(Fixed(0).below(7), 0);
        assert_eq!(Fixed(u32::MAX).below(7), 6);
        assert_eq!(Fixed(1 << 31).below(10), 5);
        assert_eq!(Fixed(u32::MAX).below(0), 0);
    }
}
