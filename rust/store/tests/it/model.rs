//! Whatever is submitted: the file holds exactly what was answered as committed.

use std::collections::BTreeSet;

use proptest::prelude::*;
use runner_store::{Completion, ErrorKind};

use crate::support::{Dir, Open, batch, message, poison};

#[derive(Debug, Clone)]
struct Submit {
    /// 0 and 1 exist, 2 does not.
    session: u8,
    /// Few names, so that the same message comes again.
    messages: Vec<u8>,
    poisoned: bool,
}

fn submit() -> impl Strategy<Value = Submit> {
    (0..3_u8, proptest::collection::vec(0..12_u8, 0..5), proptest::bool::weighted(0.15))
        .prop_map(|(session, messages, poisoned)| Submit { session, messages, poisoned })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn file_holds_what_was_answered(bursts in proptest::collection::vec(proptest::collection::vec(submit(), 1..12), 1..6)) {
        let dir = Dir::new();
        drop(Open::with_sessions(&dir, 2));
        poison(&dir);
        let open = Open::at(&dir);
        let mut expected = BTreeSet::new();
        let mut rows = 0;
        for burst in &bursts {
            // Behind a failure that this thread has not looked at yet, nothing is taken.
            let mut taken = Vec::new();
            for (token, submit) in burst.iter().enumerate() {
                let mut writes: Vec<_> = submit.messages.iter().map(|m| message(&m.to_string())).collect();
                if submit.poisoned {
                    writes.push(message("poison"));
                }
                match open.store.submit(batch(token as u64, &format!("s{}", submit.session), writes)) {
                    Ok(()) => taken.push(token),
                    Err(error) => prop_assert_eq!(error.kind, ErrorKind::Behind),
                }
            }
            for (index, completion) in taken.iter().copied().zip(open.wait(taken.len())) {
                let submit = &burst[index];
                match completion {
                    Completion::Committed { token, applied } => {
                        prop_assert_eq!(token, index as u64);
                        prop_assert!(submit.session < 2 && !submit.poisoned);
                        rows += applied.inbox_rows as usize;
                        expected.extend(submit.messages.iter().map(|m| (submit.session, *m)));
                    }
                    Completion::Failed { token, .. } => prop_assert_eq!(token, index as u64),
                    other => prop_assert!(false, "only batches were submitted: {other:?}"),
                }
            }
        }
        let stored: BTreeSet<_> = open.store.take(0, usize::MAX).unwrap().into_iter()
            .map(|m| (m.session_id[1..].parse::<u8>().unwrap(), m.message_id.parse::<u8>().unwrap()))
            .collect();
        prop_assert_eq!(rows, stored.len());
        prop_assert_eq!(stored, expected);
    }
}
