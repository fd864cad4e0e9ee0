//! Sessions that come without a device, and the one that a phone links: whole, once, or not at all.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};

use runner_store::{Batch, Credentials, DeviceError, ErrorKind, Linked, Options, SignalKey, Store, Write};

use crate::support::{Dir, Open, batch, credentials, import, message};

const PATH_VARIABLE: &str = "RUNNER_STORE_LINKING_PATH";
const KEYS: usize = 30;

fn linked(i: u32) -> Linked {
    let keys = (1..=KEYS).map(|id| SignalKey {
        kind: "pre-key".into(),
        id: id.to_string(),
        value: vec![id as u8; 64].into(),
    });
    Linked { credentials: credentials(i), keys: keys.collect() }
}

fn link(session_id: &str, linked: Linked) -> Batch {
    batch(1, session_id, vec![Write::Device(Box::new(linked))])
}

#[test]
fn a_session_waits_for_its_device_and_gets_it_whole() {
    let dir = Dir::new();
    let open = Open::at(&dir);
    open.store.create("new").unwrap();
    assert_eq!(open.store.device("new").unwrap_err(), DeviceError::NotLinked);
    assert_eq!(open.store.sessions().unwrap()[0].jid, None);
    drop(open);
    let open = Open::at(&dir);
    assert!(open.report.lines.is_empty(), "it is not damaged: {:?}", open.report);
    assert_eq!(open.commit(link("new", linked(7))), Ok(0));
    drop(open);
    let open = Open::at(&dir);
    assert_eq!(open.store.device("new").unwrap().credentials, credentials(7));
    assert_eq!(open.store.signal_keys("new").unwrap().len(), KEYS);
    assert_eq!(open.store.sessions().unwrap()[0].jid.as_ref(), Some(&credentials(7).jid));
    // From here on its loss is damage like any other's.
    drop(open);
    dir.sqlite().execute("DELETE FROM device", []).unwrap();
    let open = Open::at(&dir);
    assert!(open.report.lines[0].contains("the credentials are missing"), "{:?}", open.report);
}

/// Pain 11.
#[test]
fn a_device_is_never_replaced_by_another() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    let kind = |outcome: Result<u32, runner_store::StoreError>| outcome.unwrap_err().kind;
    assert_eq!(kind(open.commit(link("s0", linked(7)))), ErrorKind::Exists);
    assert_eq!(open.store.device("s0").unwrap().credentials, credentials(0));
    open.store.create("new").unwrap();
    assert_eq!(kind(open.commit(link("new", linked(0)))), ErrorKind::Exists, "the device of s0");
    assert_eq!(open.store.device("new").unwrap_err(), DeviceError::NotLinked);
    assert_eq!(kind(open.commit(link("nobody", linked(7)))), ErrorKind::UnknownSession);
    assert_eq!(open.commit(link("new", linked(7))), Ok(0));
    assert_eq!(kind(open.commit(link("new", linked(8)))), ErrorKind::Exists);
    assert_eq!(open.store.create("new").unwrap_err().kind, ErrorKind::Exists);
    assert_eq!(open.store.import(import("new", 9)).unwrap_err().kind, ErrorKind::Exists);
}

#[test]
fn a_device_with_a_key_that_comes_twice_is_refused_whole_and_others_commit() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    open.store.create("new").unwrap();
    let mut twice = linked(7);
    twice.keys.push(twice.keys[0].clone());
    open.store.submit(link("new", twice)).unwrap();
    open.store.submit(batch(2, "s0", vec![message("kept")])).unwrap();
    assert!(matches!(
        open.wait(2)[..],
        [
            runner_store::Completion::Failed { .. },
            runner_store::Completion::Committed { applied: runner_store::Applied { inbox_rows: 1, .. }, .. }
        ]
    ));
    assert_eq!(open.store.device("new").unwrap_err(), DeviceError::NotLinked);
    assert_eq!(open.store.signal_keys("new").unwrap(), []);
}

/// Pain 12.
#[test]
fn only_an_unlinked_device_is_set_aside_and_it_is_kept() {
    let dir = Dir::new();
    let open = Open::with_sessions(&dir, 1);
    assert_eq!(open.store.set_aside("s0").unwrap_err().kind, ErrorKind::Exists);
    assert_eq!(open.store.set_aside("nobody").unwrap_err().kind, ErrorKind::UnknownSession);
    open.store.put_policy("s0", "{}");
    open.store.archive("s0", "failure_logged_out").unwrap();
    open.store.set_aside("s0").unwrap();
    open.store.set_aside("s0").unwrap();
    open.store.archive("s0", "a mark that comes late").unwrap();
    assert_eq!(open.store.device("s0").unwrap_err(), DeviceError::NotLinked);
    let row = open.store.sessions().unwrap().remove(0);
    assert_eq!((row.jid, row.archived, row.policy.as_deref()), (None, None, Some("{}")));
    // The phone links another device, of the same number.
    let again = Credentials { jid: credentials(0).jid, ..credentials(5) };
    assert_eq!(open.commit(link("s0", Linked { credentials: again.clone(), keys: Vec::new() })), Ok(0));
    assert_eq!(open.store.device("s0").unwrap().credentials, again);
    drop(open);
    let archived: u32 =
        dir.sqlite().query_row("SELECT count(*) FROM archive_device", [], |row| row.get(0)).unwrap();
    assert_eq!(archived, 1);
}

#[test]
#[ignore = "the child of the crash test; does nothing by itself"]
fn child() {
    let Ok(path) = std::env::var(PATH_VARIABLE) else { return };
    let (store, _) = Store::open(path, Options::default(), Box::new(|| ())).unwrap();
    let begun = store.sessions().unwrap().len() as u32;
    for i in begun.. {
        let id = format!("s{i}");
        store.create(&id).unwrap();
        store.submit(link(&id, linked(i))).unwrap();
        println!("ok {i}");
        std::io::stdout().flush().unwrap();
    }
}

/// Pain 11: the server hears of a device when its batch is committed, so half a one would be a lost one.
#[test]
fn kill_9_leaves_each_session_without_a_device_or_with_a_whole_one() {
    let dir = Dir::new();
    drop(Open::at(&dir));
    let (mut without, mut whole) = (0, 0);
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "linking::child", "--nocapture"])
            .env(PATH_VARIABLE, dir.db())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let begun =
            lines.map_while(Result::ok).filter(|line| line.starts_with("ok ")).take(3 + round).count();
        assert_eq!(begun, 3 + round, "the child runs until it is killed");
        child.kill().unwrap();
        child.wait().unwrap();
        let open = Open::at(&dir);
        assert!(open.report.lines.is_empty(), "{:?}", open.report);
        for row in open.store.sessions().unwrap() {
            let keys = open.store.signal_keys(&row.session_id).unwrap().len();
            match open.store.device(&row.session_id) {
                Ok(device) => {
                    let i = row.session_id[1..].parse().unwrap();
                    assert_eq!((device.credentials, keys), (credentials(i), KEYS));
                    whole += 1;
                }
                Err(error) => {
                    assert_eq!((error, row.jid, keys), (DeviceError::NotLinked, None, 0));
                    without += 1;
                }
            }
        }
    }
    assert!(whole > 12, "{whole} whole, {without} without");
}
