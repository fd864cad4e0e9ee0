//! Importing, archiving, deleting; damaged rows.

use std::time::Duration;

use runner_store::{Completion, DeviceError, ErrorKind, Options};

use crate::support::{Dir, Open, batch, credentials, import, message};

#[test]
fn import_comes_back_whole() {
    let dir = Dir::new();
    let open = Open::at(&dir);
    let given = import("shop", 4);
    open.store.import(given.clone()).unwrap();
    let device = open.store.device("shop").unwrap();
    assert_eq!(device.credentials, given.credentials);
    assert_eq!(device.routing_info, given.routing_info);
    let mut keys = given.keys;
    keys.sort_by(|a, b| (&a.kind, &a.id).cmp(&(&b.kind, &b.id)));
    assert_eq!(open.store.signal_keys("shop").unwrap(), keys);
    let row = open.store.sessions().unwrap().remove(0);
    assert_eq!(row.jid.as_deref(), Some(given.credentials.jid.as_str()));
    assert_eq!((row.policy, row.archived, row.quarantined), (None, None, None));
    assert!(row.imported_at_unix_ms > 1_600_000_000_000);
}

#[test]
fn taken_id_is_refused_and_nothing_changes() {
    let dir = Dir::new();
    let open = Open::at(&dir);
    open.store.import(import("shop", 1)).unwrap();
    let error = open.store.import(import("shop", 2)).unwrap_err();
    assert_eq!((error.kind, error.message.contains("shop")), (ErrorKind::Exists, true));
    assert_eq!(open.store.device("shop").unwrap().credentials, credentials(1));
}

#[test]
fn device_of_another_session_is_refused_until_that_one_is_archived() {
    let dir = Dir::new();
    let open = Open::at(&dir);
    open.store.import(import("shop", 1)).unwrap();
    let error = open.store.import(import("twin", 1)).unwrap_err();
    assert_eq!((error.kind, error.message.contains("shop")), (ErrorKind::Exists, true));
    assert_eq!(open.store.sessions().unwrap().len(), 1);
    open.store.archive("shop", "stream_logged_out").unwrap();
    open.store.import(import("twin", 1)).unwrap();
}

#[test]
fn failed_import_leaves_nothing_behind() {
    let dir = Dir::new();
    let open = Open::at(&dir);
    let mut twice = import("shop", 1);
    twice.keys.push(twice.keys[0].clone());
    assert!(open.store.import(twice).is_err());
    assert!(open.store.sessions().unwrap().is_empty());
    open.store.import(import("shop", 1)).unwrap();
}

#[test]
fn many_are_imported_in_one_commit_and_a_refused_one_costs_only_itself() {
    let dir = Dir::new();
    let open = Open::at(&dir);
    open.store.import(import("shop", 0)).unwrap();
    let commits = open.store.health().commits_total;
    let mut torn = import("torn", 3);
    torn.keys.push(torn.keys[0].clone());
    let outcomes = open.store.import_all(vec![
        import("a", 1),
        import("shop", 2),
        torn,
        import("twin", 1),
        import("b", 4),
    ]);
    let refused: Vec<_> = outcomes
        .unwrap()
        .into_iter()
        .map(|outcome| outcome.map_err(|error| (error.kind, error.message)).err())
        .collect();
    let exists = |message: &str| Some((ErrorKind::Exists, message.to_owned()));
    assert_eq!(
        refused,
        [
            None,
            exists("session shop exists; choose another id"),
            exists("the Signal key pre-key 00 comes twice"),
            exists("session a holds this device already"),
            None,
        ]
    );
    assert_eq!(open.store.health().commits_total, commits + 1);
    let ids: Vec<_> = open.store.sessions().unwrap().into_iter().map(|row| row.session_id).collect();
    assert_eq!(ids, ["a", "b", "shop"]);
    assert_eq!(open.store.device("torn"), Err(DeviceError::Missing), "nothing half-imported");
    assert!(open.store.signal_keys("torn").is_err());
    open.store.import(import("torn", 3)).unwrap();
    assert_eq!(open.store.signal_keys("torn").unwrap().len(), import("torn", 3).keys.len());
}

#[test]
fn refused_import_leaves_what_is_committed_with_it() {
    let dir = Dir::new();
    let slow = Options { group_commit: Duration::from_millis(200), ..Options::default() };
    let open = Open::with_sessions(&dir, 1);
    drop(open);
    let open = Open::with(&dir, slow);
    open.store.submit(batch(1, "s0", vec![message("a")])).unwrap();
    let mut torn = import("torn", 3);
    torn.keys.push(torn.keys[0].clone());
    assert_eq!(open.store.import(torn).unwrap_err().kind, ErrorKind::Exists);
    assert_eq!(open.ids(), ["a"], "an answered message");
}

/// Pain 12.
#[test]
fn archived_session_keeps_its_credentials_over_a_restart() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.store.archive("s0", "failure_logged_out").unwrap();
    drop(open);
    let open = Open::at(&dir);
    assert_eq!(open.store.sessions().unwrap()[0].archived.as_deref(), Some("failure_logged_out"));
    assert_eq!(open.store.device("s0").unwrap().credentials, credentials(0));
    open.store.unarchive("s0").unwrap();
    drop(open);
    assert_eq!(Open::at(&dir).store.sessions().unwrap()[0].archived, None, "it logged in after all");
}

/// Pain 12.
#[test]
fn deleted_session_moves_to_the_archive_with_keys_and_its_inbox_stays() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.commit(batch(1, "s0", vec![message("a")])).unwrap();
    open.store.delete("s0").unwrap();
    assert!(open.store.sessions().unwrap().is_empty());
    assert_eq!(open.store.device("s0"), Err(DeviceError::Missing));
    assert_eq!(open.ids(), ["a"]);
    let sqlite = dir.sqlite();
    let count = |sql: &str| sqlite.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM archive JOIN archive_device USING (archive_id)"), 1);
    assert_eq!(count("SELECT count(*) FROM archive_key"), 21);
    // A policy that was on its way does not bring it back.
    open.store.put_policy("s0", "{}");
    assert!(open.store.flush(crate::support::PATIENCE));
    assert!(open.store.policies().unwrap().is_empty());
    open.store.import(import("s0", 9)).unwrap();
}

#[test]
fn unknown_session_is_an_error_everywhere() {
    let dir = Dir::new();
    let open = Open::at(&dir);
    let unknown = ErrorKind::UnknownSession;
    assert_eq!(open.store.archive("x", "y").unwrap_err().kind, unknown);
    assert_eq!(open.store.unarchive("x").unwrap_err().kind, unknown);
    assert_eq!(open.store.delete("x").unwrap_err().kind, unknown);
    assert_eq!(open.store.signal_keys("x").unwrap_err().kind, unknown);
    assert_eq!(open.store.device("x"), Err(DeviceError::Missing));
}

/// Pain 11. Every column of the credentials, changed behind the store's back.
#[test]
fn damaged_credentials_quarantine_their_session_alone_and_stay() {
    for change in [
        "jid = 'x'",
        "lid = NULL",
        "push_name = 'x'",
        "platform = 'x'",
        "registration_id = registration_id + 1",
        "noise_secret = zeroblob(32)",
        "noise_secret = zeroblob(31)",
        "identity_secret = zeroblob(32)",
        "signed_pre_key_id = -1",
        "signed_pre_key_secret = zeroblob(32)",
        "signed_pre_key_signature = zeroblob(64)",
        "adv_secret = zeroblob(32)",
        "account = NULL",
        "source = x'00'",
        "checksum = zeroblob(16)",
    ] {
        let dir = Dir::new();
        drop(Open::with_sessions(&dir, 2));
        dir.sqlite().execute(&format!("UPDATE device SET {change} WHERE session_id = 's1'"), []).unwrap();

        let open = Open::at(&dir);
        assert_eq!(open.report.lines.len(), 1, "{change}");
        assert!(open.report.lines[0].starts_with("session s1 quarantined"), "{change}");
        assert!(matches!(open.store.device("s1"), Err(DeviceError::Quarantined(_))), "{change}");
        assert!(open.store.device("s0").is_ok(), "{change}");
        let rows = open.store.sessions().unwrap();
        assert_eq!((rows[0].quarantined.is_none(), rows[1].quarantined.is_some()), (true, true), "{change}");
        assert_eq!(open.store.import(import("s1", 7)).unwrap_err().kind, ErrorKind::Exists, "{change}");
        let aside = open.store.quarantined().unwrap();
        assert_eq!(
            (aside[0].what.as_str(), aside[0].session_id.as_deref()),
            ("device", Some("s1")),
            "{change}"
        );
        drop(open);
        let again = Open::at(&dir);
        assert!(again.report.lines.is_empty(), "reported once");
        assert_eq!(again.store.quarantined().unwrap().len(), 1);
        let kept: i64 =
            dir.sqlite().query_row("SELECT length(content) FROM quarantine", [], |row| row.get(0)).unwrap();
        assert!(kept > 400, "the row is kept whole");
    }
}

#[test]
fn credentials_damaged_while_running_are_quarantined_at_the_next_dial() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 2);
    dir.sqlite().execute("UPDATE device SET noise_secret = zeroblob(32)", []).unwrap();
    open.store.request_device("s0", 1).unwrap();
    let Completion::Device { token: 1, result } = open.wait(1).remove(0) else { panic!("a device") };
    assert!(matches!(*result, Err(DeviceError::Quarantined(_))));
    assert!(matches!(open.store.device("s1"), Err(DeviceError::Quarantined(_))), "the blocking path as well");
    assert_eq!(open.store.quarantined().unwrap().len(), 2);
}

#[test]
fn missing_credentials_quarantine_the_session() {
    let dir = Dir::new();
    drop(Open::with_sessions(&dir, 1));
    dir.sqlite().execute("DELETE FROM device", []).unwrap();
    let open = Open::at(&dir);
    assert!(open.store.sessions().unwrap()[0].quarantined.as_deref().unwrap().contains("missing"));
}

#[test]
fn damaged_signal_key_is_set_aside_and_the_others_stay() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    dir.sqlite().execute("UPDATE signal_key SET value = x'00' WHERE id = '07'", []).unwrap();
    assert_eq!(open.store.signal_keys("s0").unwrap().len(), 20);
    let aside = open.store.quarantined().unwrap();
    assert_eq!(aside.len(), 1);
    assert_eq!(aside[0].what, "signal_key");
    assert!(aside[0].why.contains("pre-key 07"));
    assert_eq!(open.store.sessions().unwrap()[0].quarantined, None, "the session goes on");
    assert_eq!(open.store.signal_keys("s0").unwrap().len(), 20);
    assert_eq!(open.store.quarantined().unwrap().len(), 1);
}

#[test]
fn secrets_are_not_printed() {
    let shown = format!("{:?}", import("s0", 0));
    for field in ["noise_secret", "identity_secret", "signed_pre_key_secret", "adv_secret"] {
        assert!(shown.contains(&format!("{field}: Secret32(..)")), "{field}");
    }
    assert!(shown.contains("source: SecretBytes(14 bytes)"));
    assert!(!shown.contains("7, 7, 7"), "the Signal keys");
}
