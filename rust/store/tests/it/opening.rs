//! The lock, rights, schema versions.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use runner_store::{ErrorKind, Options, Store, Write};

use crate::support::{Dir, Open, batch, message};

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn second_opener_is_refused_with_the_pid_of_the_first() {
    let dir = Dir::new();
    let _first = Open::at(&dir);
    let error = Open::try_at(&dir).map(|_| ()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Locked);
    assert!(error.message.contains(&format!("process {}", std::process::id())), "{error}");
}

#[test]
fn lock_file_without_a_holder_locks_nobody_out() {
    let dir = Dir::new();
    fs::write(dir.path().join("store.db.lock"), "999999\n").unwrap();
    drop(Open::at(&dir));
    Open::at(&dir);
}

#[test]
fn files_are_for_their_owner_only() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.commit(batch(1, "s0", vec![message("a")])).unwrap();
    for name in ["store.db", "store.db-wal", "store.db-shm", "store.db.lock"] {
        assert_eq!(mode(&dir.path().join(name)), 0o600, "{name}");
    }
}

#[test]
fn created_directories_are_for_their_owner_only() {
    let dir = Dir::new();
    let path = dir.path().join("a/b/store.db");
    let (_store, _) = Store::open(path, Options::default(), Box::new(|| {})).unwrap();
    assert_eq!(mode(&dir.path().join("a")), 0o700);
    assert_eq!(mode(&dir.path().join("a/b")), 0o700);
}

#[test]
fn file_readable_by_others_is_restricted_and_reported() {
    let dir = Dir::new();
    drop(Open::with_sessions(&dir, 1));
    fs::set_permissions(dir.db(), fs::Permissions::from_mode(0o644)).unwrap();
    let open = Open::at(&dir);
    assert_eq!(mode(&dir.db()), 0o600);
    assert!(open.report.lines[0].contains("readable by others"), "{:?}", open.report);
}

#[test]
fn an_emptied_file_is_made_anew_and_reported_and_one_that_was_never_there_is_no_news() {
    let dir = Dir::new();
    assert_eq!(Open::at(&dir).report.lines, Vec::<String>::new());
    for suffix in ["-wal", "-shm"] {
        let beside = dir.db().with_file_name(format!("{}{suffix}", dir.db().file_name().unwrap().display()));
        let _ = fs::remove_file(beside);
    }
    fs::write(dir.db(), "").unwrap();
    let open = Open::at(&dir);
    assert!(open.report.lines[0].contains("restore a backup"), "{:?}", open.report);
}

#[test]
fn newer_schema_is_refused_and_left_alone() {
    let dir = Dir::new();
    drop(Open::with_sessions(&dir, 1));
    dir.sqlite().execute_batch("PRAGMA user_version = 4000").unwrap();
    let before = fs::read(dir.db()).unwrap();
    let error = Open::try_at(&dir).map(|_| ()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NewerSchema);
    assert!(error.message.contains("4000"), "{error}");
    assert_eq!(fs::read(dir.db()).unwrap(), before);
}

#[test]
fn database_of_another_program_is_refused_and_left_alone() {
    let dir = Dir::new();
    dir.sqlite().execute_batch("CREATE TABLE photo (id)").unwrap();
    let error = Open::try_at(&dir).map(|_| ()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Io);
    assert!(error.message.contains("another program"), "{error}");
    let tables: i64 = dir.sqlite().query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).unwrap();
    assert_eq!(tables, 1);
}

#[test]
fn empty_file_becomes_a_store() {
    let dir = Dir::new();
    fs::write(dir.db(), b"").unwrap();
    Open::with_sessions(&dir, 1);
}

/// A file as version 1 wrote it. It is never changed: later versions must open it.
#[test]
fn file_of_version_1_opens_with_everything_in_it() {
    let dir = Dir::new();
    dir.sqlite().execute_batch(include_str!("../fixtures/store_v1.sql")).unwrap();
    let open = Open::at(&dir);
    assert_eq!(open.ids(), ["first"]);
    let row = open.store.sessions().unwrap().remove(0);
    assert_eq!((row.session_id.as_str(), row.policy.as_deref()), ("s0", Some("{\"desired\":\"started\"}")));
    assert_eq!(open.store.device("s0").unwrap().credentials, crate::support::credentials(0));
    assert_eq!(open.store.signal_keys("s0").unwrap().len(), 21);
    // What version 3 brought.
    let letter =
        Write::DeadLetter { sender: "x".into(), message_id: "1".into(), frame: vec![0], received_unix_ms: 1 };
    assert_eq!(open.commit(batch(1, "s0", vec![letter])), Ok(0));
    assert_eq!(open.store.take_dead_letters(0, 9).unwrap().len(), 1);
    // What version 4 brought.
    assert!(open.store.device("s0").unwrap().has_ciphertexts, "its message was never decrypted");
    let version: i64 = dir.sqlite().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(open.store.backlog().unwrap(), [], "what version 5 brought");
    assert_eq!(open.store.unread(u64::MAX, 9).unwrap(), [], "what version 6 brought");
    assert_eq!(version, 6);
}
