//! Two devices, and a group, over a bad network: the bodies of the fuzz targets on sequences of operations.

use proptest::prelude::*;
use runner_signal::fuzz::{conversation, group_conversation};

/// Operations as the fuzz targets read them, on average as many deliveries as messages.
fn operations() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        6 => 0..=3_u8,
        6 => 4..=8_u8,
        1 => Just(9_u8),
        1 => Just(10_u8),
        1 => Just(11_u8),
        2 => Just(12_u8),
        2 => Just(13_u8),
        1 => Just(14_u8),
        1 => Just(15_u8),
    ];
    prop::collection::vec((kind, any::<u8>()), 0..120)
        .prop_map(|operations| operations.into_iter().flat_map(|(kind, argument)| [kind, argument]).collect())
}

proptest! {
    // A failure is told in minutes, not hours.
    #![proptest_config(ProptestConfig { max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_conversation_keeps_its_promises(data in operations()) {
        conversation(&data);
    }

    #[test]
    fn a_group_keeps_its_promises(data in operations()) {
        group_conversation(&data);
    }
}
