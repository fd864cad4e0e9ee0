//! Signal records: imported, used, used up, damaged.

use runner_store::{Completion, ErrorKind, RecordKey, SignalRecord, Write};

use crate::support::{Dir, Open, batch, message, poison};

fn key(id: &str) -> RecordKey {
    RecordKey { kind: "pre-key", id: id.into() }
}

fn put(id: &str, value: &[u8]) -> Write {
    Write::PutRecord { key: key(id), value: value.to_vec().into() }
}

fn own(value: &[u8]) -> Option<SignalRecord> {
    Some(SignalRecord { value: value.to_vec().into(), is_imported: false })
}

impl Open {
    fn records(&self, session_id: &str, ids: &[&str]) -> Vec<Option<SignalRecord>> {
        self.store.request_records(session_id, 9, ids.iter().map(|id| key(id)).collect()).unwrap();
        match self.wait(1).remove(0) {
            Completion::Records { token: 9, result } => result.unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_record_is_as_it_was_imported_until_it_is_written() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 2);
    let imported = Some(SignalRecord { value: vec![7; 80].into(), is_imported: true });
    assert_eq!(open.records("s0", &["07", "none", "08"]), [imported.clone(), None, imported.clone()]);
    open.commit(batch(1, "s0", vec![put("07", b"ours"), Write::RemoveRecord(key("08")), put("new", b"n")]))
        .unwrap();
    assert_eq!(open.records("s0", &["07", "08", "new"]), [own(b"ours"), None, own(b"n")]);
    assert_eq!(open.records("s1", &["07"]), [imported], "another session's");
    assert_eq!(open.store.signal_keys("s0").unwrap().len(), 19, "those that are as they were imported");
    open.store.close();
    assert_eq!(Open::at(&dir).records("s0", &["07", "08", "new"]), [own(b"ours"), None, own(b"n")]);
}

#[test]
fn a_load_sees_what_was_submitted_before_it_and_is_answered_in_its_turn() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.store.submit(batch(1, "s0", vec![put("x", b"1")])).unwrap();
    open.store.request_records("s0", 2, vec![key("x")]).unwrap();
    let Completion::Records { token: 2, result } = open.wait(2).remove(1) else { panic!("in order") };
    assert_eq!(result.unwrap(), [own(b"1")]);
}

#[test]
fn a_load_behind_a_failed_transaction_fails_with_it() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    poison(&dir);
    open.store.submit(batch(1, "s0", vec![put("x", b"1"), message("poison")])).unwrap();
    open.store.request_records("s0", 2, vec![key("x")]).unwrap();
    let completions = open.wait(2);
    assert!(matches!(completions[0], Completion::Failed { token: 1, .. }));
    if let Completion::Records { token: 2, result: Ok(records) } = &completions[1] {
        assert_eq!(records, &[None], "asked for after it");
    }
}

/// Pain 3: the message key that the failed batch used up would be lost with its message.
#[test]
fn a_batch_made_in_ignorance_of_a_failure_is_refused() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    poison(&dir);
    open.store.submit(batch(1, "s0", vec![put("x", b"1"), message("poison")])).unwrap();
    // The store has failed it, and this thread has not looked.
    open.wait_failed();
    let refused = open.store.submit(batch(2, "s0", vec![put("x", b"2")])).map_err(|error| error.kind);
    assert_eq!(refused, Err(ErrorKind::Behind));
    let mut told = Vec::new();
    let known = open.store.drain_completions(&mut told);
    assert!(matches!(told[..], [Completion::Failed { token: 1, .. }]));
    // Whoever has drained the failure has not passed it on yet.
    assert_eq!(open.store.submit(batch(2, "s0", vec![])).map_err(|error| error.kind), Err(ErrorKind::Behind));
    open.store.know_failures(known);
    assert!(open.store.submit(batch(3, "s0", vec![put("x", b"3")])).is_ok());
    open.wait(1);
    assert_eq!(open.records("s0", &["x"]), [own(b"3")]);
}

#[test]
fn a_damaged_record_is_set_aside_and_answered_as_missing() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.commit(batch(1, "s0", vec![put("x", b"ours")])).unwrap();
    dir.sqlite().execute("UPDATE signal_key SET value = x'00' WHERE id IN ('x', '07')", []).unwrap();
    assert_eq!(open.records("s0", &["x", "07"]), [None, None]);
    let aside = open.store.quarantined().unwrap();
    assert_eq!(aside.iter().map(|row| row.what.as_str()).collect::<Vec<_>>(), ["signal_key", "signal_key"]);
    // The form is part of what the checksum covers: ours is never read as another program's.
    open.commit(batch(2, "s0", vec![put("y", b"ours")])).unwrap();
    dir.sqlite().execute("UPDATE signal_key SET format = 0 WHERE id = 'y'", []).unwrap();
    assert_eq!(open.records("s0", &["y"]), [None]);
}

#[test]
fn records_go_to_the_archive_with_their_session() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.commit(batch(1, "s0", vec![put("x", b"ours")])).unwrap();
    open.store.delete("s0").unwrap();
    assert_eq!(open.records("s0", &["x"]), [None]);
    let archived: (i64, i64) = dir
        .sqlite()
        .query_row("SELECT count(*), sum(format) FROM archive_key", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(archived, (22, 1));
}
