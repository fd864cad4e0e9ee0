//! A copy while the store is in use, and a store out of one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use runner_store::{Change, Credentials, ErrorKind, Restored, StoreError, StoredRow, restore};

use crate::support::{Dir, Open, batch, import, message};

fn file(dir: &Dir) -> PathBuf {
    dir.path().join("copy.db")
}

fn nothing(_: &Credentials, _: Vec<StoredRow>) -> Vec<Change> {
    Vec::new()
}

fn restored(to: &Dir, from: &Dir, replace: bool) -> Result<Restored, StoreError> {
    restore(&to.db(), &file(from), replace, &mut nothing)
}

/// A backup of two sessions and one message, and where it is.
fn made() -> Dir {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 2);
    open.commit(batch(1, "s0", vec![message("before")])).unwrap();
    open.store.backup(&file(&dir), "1.2.3").unwrap();
    open.commit(batch(2, "s0", vec![message("after")])).unwrap();
    open.store.close();
    dir
}

#[test]
fn what_was_committed_before_is_in_it_and_what_came_after_is_not() {
    let (dir, to) = (made(), Dir::new());
    let mode = fs::metadata(file(&dir)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(dir.names("copy"), ["copy.db"], "one file, nothing beside it");
    let told = restored(&to, &dir, false).unwrap();
    assert_eq!((told.sessions, told.moved_to), (2, None));
    let open = Open::at(&to);
    assert_eq!(open.ids(), ["before"]);
    assert_eq!(open.store.device("s1").unwrap().credentials, import("s1", 1).credentials);
    assert!(open.report.lines.is_empty(), "{:?}", open.report);
    assert!(!open.store.meta().unwrap().iter().any(|(key, _)| key == "backup"), "it is a store now");
    assert_eq!(fs::metadata(to.db()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_writer_goes_on_while_the_copy_is_made() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 200);
    let store = open.store.clone();
    let target = file(&dir);
    let copy = std::thread::spawn(move || store.backup(&target, "1.2.3").unwrap());
    let mut written = 0;
    while !copy.is_finished() || written == 0 {
        written += 1;
        open.commit(batch(written, "s0", vec![message(&format!("m{written}"))])).unwrap();
    }
    let made = copy.join().unwrap();
    assert_eq!(made.sessions, 200);
    assert_eq!(made.bytes, fs::metadata(file(&dir)).unwrap().len());
    let to = Dir::new();
    restored(&to, &dir, false).unwrap();
    // Of one moment: the messages up to some point, and none behind it.
    let ids = Open::at(&to).ids();
    let expected: Vec<_> = (1..=ids.len()).map(|n| format!("m{n}")).collect();
    assert_eq!(ids, expected);
    assert_eq!(open.ids().len() as u64, written);
}

#[test]
fn an_existing_file_is_not_written_over_and_a_failure_leaves_none() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    fs::write(file(&dir), "mine").unwrap();
    let error = open.store.backup(&file(&dir), "1").unwrap_err();
    assert_eq!((error.kind, fs::read_to_string(file(&dir)).unwrap().as_str()), (ErrorKind::Exists, "mine"));
    let nowhere = dir.path().join("no/such/directory.db");
    assert_eq!(open.store.backup(&nowhere, "1").unwrap_err().kind, ErrorKind::Io);
    assert_eq!(dir.names("partial"), [] as [&str; 0]);
    open.store.close();
    assert_eq!(open.store.backup(&nowhere, "1").unwrap_err().kind, ErrorKind::Closed);
}

#[test]
fn a_store_in_use_is_not_replaced() {
    let (dir, to) = (made(), Dir::new());
    let open = Open::with_sessions(&to, 1);
    let error = restored(&to, &dir, true).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Locked);
    assert!(open.store.device("s0").is_ok());
}

#[test]
fn a_store_with_sessions_is_kept_or_moved_aside_whole() {
    let (dir, to) = (made(), Dir::new());
    let open = Open::at(&to);
    open.store.import(import("mine", 77)).unwrap();
    open.commit(batch(1, "mine", vec![message("kept")])).unwrap();
    open.store.close();
    let error = restored(&to, &dir, false).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Exists);
    assert!(error.message.contains("1 sessions") && error.message.contains("--replace"), "{error}");
    assert_eq!(Open::at(&to).ids(), ["kept"]);
    let aside = restored(&to, &dir, true).unwrap().moved_to.unwrap();
    assert_eq!(Open::at(&to).ids(), ["before"]);
    let kept = Dir::new();
    fs::rename(aside, kept.db()).unwrap();
    let kept_store = Open::at(&kept);
    assert_eq!((kept_store.ids(), kept_store.store.device("mine").is_ok()), (vec!["kept".into()], true));
}

#[test]
fn an_empty_store_is_no_reason_to_refuse() {
    let (dir, to) = (made(), Dir::new());
    Open::at(&to).store.close();
    restored(&to, &dir, false).unwrap();
    assert_eq!(Open::at(&to).ids(), ["before"]);
}

#[test]
fn what_is_no_whole_backup_touches_nothing() {
    let dir = made();
    let whole = fs::read(file(&dir)).unwrap();
    let damaged = {
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 8192].fill(0x55);
        bytes
    };
    let sqlite = |sql: &str| {
        let path = dir.path().join("other.db");
        let _ = fs::remove_file(&path);
        fs::write(&path, &whole).unwrap();
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        fs::read(&path).unwrap()
    };
    let cases = [
        (b"no database at all".to_vec(), ErrorKind::Damaged),
        (whole[..whole.len() / 2].to_vec(), ErrorKind::Damaged),
        (damaged, ErrorKind::Damaged),
        (sqlite("DELETE FROM meta"), ErrorKind::Damaged),
        (sqlite("PRAGMA application_id = 7"), ErrorKind::Damaged),
        (sqlite("PRAGMA user_version = 999"), ErrorKind::NewerSchema),
    ];
    for (at, (bytes, kind)) in cases.into_iter().enumerate() {
        let to = Dir::new();
        let open = Open::with_sessions(&to, 1);
        open.store.close();
        let before = fs::read(to.db()).unwrap();
        fs::write(file(&dir), bytes).unwrap();
        assert_eq!(restored(&to, &dir, true).unwrap_err().kind, kind, "case {at}");
        assert_eq!(fs::read(to.db()).unwrap(), before, "case {at}");
        assert_eq!(to.names("store.db"), ["store.db", "store.db.lock"], "case {at}");
    }
    let missing = restore(&Dir::new().db(), &dir.path().join("none"), true, &mut nothing).unwrap_err();
    assert_eq!(missing.kind, ErrorKind::Damaged);
}

#[test]
fn records_change_as_they_are_told_to_session_by_session() {
    let (dir, to) = (made(), Dir::new());
    let mut seen = Vec::new();
    let told =
        restore(&to.db(), &file(&dir), false, &mut |credentials: &Credentials, rows: Vec<StoredRow>| {
            seen.push((credentials.jid.clone(), rows.len(), rows.iter().all(|row| row.record.is_imported)));
            vec![
                ("session".into(), "a.0".into(), Some(vec![1, 2].into())),
                ("pre-key".into(), "00".into(), None),
                ("pre-key".into(), "01".into(), Some(vec![9].into())),
            ]
        });
    assert_eq!(told.unwrap().changed, 6);
    assert_eq!(
        seen.iter().map(|(_, rows, imported)| (*rows, *imported)).collect::<Vec<_>>(),
        [(21, true); 2]
    );
    let open = Open::at(&to);
    let records = open.store.export("s1").unwrap().records;
    let of = |kind: &str, id: &str| {
        let row = records.iter().find(|row| row.kind == kind && row.id == id)?;
        Some((row.record.value.expose().to_vec(), row.record.is_imported))
    };
    assert_eq!(of("session", "a.0"), Some((vec![1, 2], false)));
    assert_eq!(of("pre-key", "00"), None);
    assert_eq!(of("pre-key", "01"), Some((vec![9], false)));
    assert_eq!(of("pre-key", "02"), Some((vec![7; 80], true)));
}

#[test]
fn a_restore_that_was_cut_short_is_begun_anew() {
    let (dir, to) = (made(), Dir::new());
    fs::write(to.path().join("store.db.restoring"), "half").unwrap();
    fs::write(to.path().join("store.db.restoring-journal"), "half").unwrap();
    restored(&to, &dir, false).unwrap();
    assert_eq!((Open::at(&to).ids(), to.names("restoring").len()), (vec!["before".into()], 0));
}

#[test]
fn an_export_has_all_of_a_device_and_names_what_is_damaged() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.store.create("new").unwrap();
    dir.sqlite().execute("UPDATE signal_key SET value = x'00' WHERE id = '03'", []).unwrap();
    let told = open.store.export("s0").unwrap();
    assert_eq!((told.credentials, told.source), (import("s0", 0).credentials, import("s0", 0).source));
    assert_eq!((told.records.len(), told.damaged), (20, vec!["pre-key 03".to_owned()]));
    assert_eq!(open.store.export("new").unwrap_err().kind, ErrorKind::NotLinked);
    assert_eq!(open.store.export("none").unwrap_err().kind, ErrorKind::UnknownSession);
    dir.sqlite().execute("UPDATE device SET noise_secret = zeroblob(32)", []).unwrap();
    assert_eq!(open.store.export("s0").unwrap_err().kind, ErrorKind::Quarantined);
}
