//! Damaged files: kept, salvaged, reported; never a silent loss, never a new identity.

use std::fs;

use runner_store::{Completion, DeviceError, ErrorKind, NewEvent, RecordKey, Store};

use crate::support::{Dir, Open, batch, credentials, message, sized_message};

/// A closed store with sessions, messages and a policy; large enough that each table has pages of its own.
fn filled(dir: &Dir) {
    let open = Open::with_sessions(dir, 30);
    let messages = (0..300).map(|i| sized_message(&format!("m{i:03}"), 1500)).collect();
    open.commit(batch(1, "s7", messages)).unwrap();
    open.store.put_policy("s7", "{}");
    open.store.close();
}

fn overwrite(path: &std::path::Path, at: usize, bytes: &[u8]) {
    let mut content = fs::read(path).unwrap();
    content[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(path, content).unwrap();
}

const PAGE: usize = 4096;

/// Pain 11.
#[test]
fn file_that_is_no_database_is_refused_and_kept() {
    let dir = Dir::new();
    let garbage = vec![0x5A; 3 * PAGE];
    fs::write(dir.db(), &garbage).unwrap();
    for _ in 0..2 {
        let error = Open::try_at(&dir).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Damaged);
        assert!(error.message.contains("backup"), "names the remedy: {error}");
    }
    assert_eq!(fs::read(dir.db()).unwrap(), garbage);
    assert_eq!(dir.names("damaged"), Vec::<String>::new(), "retries do not pile up copies");
}

/// Pain 11. Each page in turn is torn. Whatever it held: the store opens or refuses, nothing is lost in silence, and
/// every session is either whole, or quarantined, or named in the report.
#[test]
fn any_torn_page_is_noticed_and_everything_else_is_saved() {
    let source = Dir::new();
    filled(&source);
    let pages = fs::metadata(source.db()).unwrap().len() as usize / PAGE;
    assert!(pages > 100, "{pages} pages");
    let (mut salvaged, mut refused, mut unharmed, mut large_losses) = (0, 0, 0, 0);
    for page in (12..pages).step_by(7).chain(0..12) {
        let dir = Dir::new();
        fs::copy(source.db(), dir.db()).unwrap();
        overwrite(&dir.db(), page * PAGE, &[0xA5; PAGE]);
        let open = match Open::try_at(&dir) {
            Ok(open) => open,
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Damaged, "page {page}: {error}");
                refused += 1;
                continue;
            }
        };
        let rows = open.store.sessions().unwrap();
        let whole = rows.iter().filter(|r| r.quarantined.is_none()).count();
        for row in rows.iter().filter(|r| r.quarantined.is_none()) {
            let seed: u32 = row.session_id[1..].parse().unwrap();
            assert_eq!(open.store.device(&row.session_id).unwrap().credentials, credentials(seed));
        }
        let lost_something =
            whole < 30 || open.ids().len() < 300 || open.store.policies().unwrap().is_empty();
        if open.report.lines.is_empty() {
            assert!(!lost_something, "page {page}: lost in silence");
            unharmed += 1;
        } else {
            assert_eq!(dir.names("damaged").len(), 1, "page {page}: {:?}", open.report);
            assert!(!open.store.quarantined().unwrap().is_empty());
            // Only the page at the top of the inbox's tree holds more than two messages.
            let few = open.ids().len() >= 298;
            assert!(
                few || open.report.lines.iter().any(|l| l.starts_with("inbox: up to 300")),
                "page {page}"
            );
            large_losses += usize::from(!few);
            salvaged += 1;
        }
        // It works again.
        if let Some(row) = rows.iter().find(|r| r.quarantined.is_none()) {
            open.commit(batch(9, &row.session_id, vec![message("after")])).unwrap();
        }
        drop(open);
        assert!(Open::at(&dir).report.lines.is_empty(), "page {page}: reported once");
    }
    assert!(salvaged > pages / 14, "{salvaged} salvaged, {refused} refused, {unharmed} unharmed");
    assert!(refused <= 2, "{refused} refused");
    assert!(large_losses <= 1, "{large_losses}");
}

#[test]
fn truncated_file_is_salvaged_or_refused_never_new() {
    let source = Dir::new();
    filled(&source);
    let whole = fs::read(source.db()).unwrap();
    for keep in [1, 100, PAGE, whole.len() / 2, whole.len() - PAGE] {
        let dir = Dir::new();
        fs::write(dir.db(), &whole[..keep]).unwrap();
        match Open::try_at(&dir) {
            Ok(open) => assert!(!open.report.lines.is_empty(), "{keep} bytes"),
            Err(error) => assert_eq!(error.kind, ErrorKind::Damaged, "{keep} bytes: {error}"),
        }
    }
}

#[test]
fn salvage_interrupted_before_the_change_over_is_finished_by_the_next_open() {
    let source = Dir::new();
    filled(&source);
    let dir = Dir::new();
    fs::copy(source.db(), dir.path().join("store.db.salvaged")).unwrap();
    fs::write(dir.db(), b"damaged").unwrap();
    fs::write(dir.wal(), b"the log of the damaged file").unwrap();
    let open = Open::at(&dir);
    assert_eq!(open.report.lines.len(), 1);
    assert_eq!(open.store.sessions().unwrap().len(), 30);
    assert_eq!(dir.names("salvag"), Vec::<String>::new());
}

#[test]
fn damage_found_in_use_stops_writing_until_the_next_open_salvages() {
    let dir = Dir::new();
    filled(&dir);
    let whole = fs::read(dir.db()).unwrap();
    let open = Open::at(&dir);
    overwrite(&dir.db(), PAGE, &vec![0xA5; whole.len() / 2]);
    let error = open.store.take(0, 1000).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Damaged);
    assert!(open.store.health().damaged);
    let refused = open.commit(batch(1, "s0", vec![message("x")])).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Damaged);
    assert!(refused.message.contains("restart"), "names the remedy: {refused}");
    assert!(open.store.health().last_error.is_some());
    drop(open);
    fs::write(dir.db(), whole).unwrap();
    assert_eq!(Open::at(&dir).ids().len(), 300, "nothing was written into the damaged file");
}

/// Asks, and has an answer and the store's health tell of damage.
fn is_told_of(open: &Open, ask: impl Fn(&Store)) {
    ask(&open.store);
    let answer = open.wait(1).remove(0);
    let is_damage = match &answer {
        Completion::Records { result: Err(error), .. } => error.kind == ErrorKind::Damaged,
        Completion::Device { result, .. } => {
            matches!(&**result, Err(DeviceError::Store(error)) if error.kind == ErrorKind::Damaged)
        }
        _ => false,
    };
    assert!(is_damage, "{answer:?}");
    let health = open.store.health();
    assert!(health.damaged && health.last_error.is_some(), "{answer:?}");
}

/// Else the session that needs it would lose its messages on every connection, and nobody would know why.
#[test]
fn damage_found_by_whoever_asked_for_a_read_is_told_as_well() {
    let dir = Dir::new();
    filled(&dir);
    let open = Open::at(&dir);
    // The pages of the records alone, so that nothing else finds it.
    let file = fs::read(dir.db()).unwrap();
    let holds = |page: &[u8]| page.windows(80).any(|bytes| bytes == [7; 80]);
    let torn = file.chunks(PAGE).enumerate().filter(|(_, page)| holds(page));
    torn.for_each(|(at, _)| overwrite(&dir.db(), at * PAGE, &[0xA5; PAGE]));
    is_told_of(&open, |store| {
        store.request_records("s9", 1, vec![RecordKey { kind: "pre-key", id: "07".into() }]).unwrap();
    });
    let dir = Dir::new();
    filled(&dir);
    let open = Open::at(&dir);
    overwrite(&dir.db(), PAGE, &vec![0xA5; file.len() - PAGE]);
    is_told_of(&open, |store| store.request_device("s9", 1).unwrap());
}

/// A store that was killed with a log of many transactions: file and log as a crash leaves them.
fn killed(dir: &Dir, transactions: u64) {
    let source = Dir::new();
    let open = Open::with_sessions(&source, 1);
    for i in 0..transactions {
        open.commit(batch(i, "s0", vec![message(&format!("m{i:03}"))])).unwrap();
    }
    fs::copy(source.db(), dir.db()).unwrap();
    fs::copy(source.wal(), dir.wal()).unwrap();
}

#[test]
fn log_of_a_killed_process_is_replayed_without_a_report() {
    let dir = Dir::new();
    killed(&dir, 50);
    let open = Open::at(&dir);
    assert!(open.report.lines.is_empty(), "{:?}", open.report);
    assert_eq!(open.ids().len(), 50);
}

/// SQLite alone would drop everything behind the torn frame without a word.
#[test]
fn torn_frame_in_the_middle_of_the_log_is_reported_and_kept() {
    let dir = Dir::new();
    killed(&dir, 50);
    let torn_at = fs::metadata(dir.wal()).unwrap().len() as usize / 2;
    overwrite(&dir.wal(), torn_at, &[0xA5; 64]);
    let open = Open::at(&dir);
    assert_eq!(open.report.lines.len(), 1, "{:?}", open.report);
    assert!(open.report.lines[0].contains("transactions are lost"), "{:?}", open.report);
    let left = open.ids().len();
    assert!((1..50).contains(&left), "what lies before the damage is there: {left}");
    assert_eq!(dir.names("damaged").len(), 2, "file and log");
    drop(open);
    assert!(Open::at(&dir).report.lines.is_empty());
}

#[test]
fn log_without_a_readable_header_is_reported_and_kept() {
    let dir = Dir::new();
    killed(&dir, 5);
    overwrite(&dir.wal(), 0, &[0xA5; 32]);
    match Open::try_at(&dir) {
        Ok(open) => assert!(open.report.lines[0].contains("damaged at frame 0"), "{:?}", open.report),
        Err(error) => assert_eq!(error.kind, ErrorKind::Damaged),
    }
}

/// A cut log is what power loss in the middle of a write leaves: no more than the unconfirmed end is missing.
#[test]
fn log_cut_at_its_end_is_no_damage() {
    let whole = Dir::new();
    killed(&whole, 20);
    let log = fs::read(whole.wal()).unwrap();
    for cut in [1, 100, 4096, 5000] {
        let dir = Dir::new();
        fs::copy(whole.db(), dir.db()).unwrap();
        fs::write(dir.wal(), &log[..log.len() - cut]).unwrap();
        let open = Open::at(&dir);
        assert!(open.report.lines.is_empty(), "cut by {cut}: {:?}", open.report);
        assert!(open.ids().len() >= 18, "cut by {cut}");
    }
}

#[test]
fn messages_after_a_salvage_get_new_numbers() {
    let source = Dir::new();
    filled(&source);
    let open = Open::at(&source);
    let newest = open.store.take(0, 1000).unwrap().pop().unwrap().seq;
    drop(open);
    // The page that the last messages are on.
    let content = fs::read(source.db()).unwrap();
    let at = content.windows(4).rposition(|w| w == b"m299").unwrap() / PAGE * PAGE;
    overwrite(&source.db(), at, &[0xA5; PAGE]);
    let open = Open::at(&source);
    assert!(open.report.lines.len() > 1, "{:?}", open.report);
    open.commit(batch(1, "s0", vec![message("new")])).unwrap();
    let seq = open.store.take(0, 1000).unwrap().pop().unwrap().seq;
    assert!(seq > newest, "{seq} is not above {newest}");
}

/// What was given up is not handed out again by a salvaged file, and what waits for a webhook still does.
#[test]
fn outbox_and_what_was_given_up_are_salvaged() {
    let source = Dir::new();
    filled(&source);
    let open = Open::at(&source);
    open.store.bury(vec![(1, 5, "ValueError".into())]).unwrap();
    open.store.put_webhook("w", "{}").unwrap();
    let event = NewEvent {
        event_id: "e1".into(),
        name: "message".into(),
        session_id: "s7".into(),
        chat: "a".into(),
        body: b"{}".to_vec(),
        at_unix_ms: 7,
        webhooks: vec!["w".into()],
    };
    open.store.post(vec![event], &[]).unwrap();
    open.store.close();
    let pages = fs::metadata(source.db()).unwrap().len() as usize / PAGE;
    let mut whole = 0;
    for page in (12..pages).step_by(40) {
        let dir = Dir::new();
        fs::copy(source.db(), dir.db()).unwrap();
        overwrite(&dir.db(), page * PAGE, &[0xA5; PAGE]);
        let Ok(open) = Open::try_at(&dir) else { continue };
        if !open.report.lines.iter().any(|line| line.contains("was damaged")) {
            continue;
        }
        let given_up = open.store.undelivered(None, 0, 9).unwrap();
        let deliveries = open.store.deliveries("w", 0, 9).unwrap();
        if (given_up.len(), deliveries.len(), open.store.webhooks().unwrap().len()) == (1, 1, 1) {
            assert!(open.store.take(0, 1000).unwrap().iter().all(|message| message.seq != 1), "page {page}");
            whole += 1;
        }
    }
    assert!(whole > 0, "one page of many hits none of them");
}
