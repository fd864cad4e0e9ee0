//! Power loss: what was answered is there, whatever became of the writes behind the last sync of each file.
//!
//! The child is this test executable again, with `recorder.c` preloaded: it works with the store and notes its answers
//! in a file beside it. The record has every write, truncation and sync in its order. A cut is made at any place of it:
//! of what was not synced by then, any part is on the disk, in pieces of 512 bytes, so that pages are torn and later
//! writes are there without earlier ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use runner_store::{Completion, NewEvent, Options, RecordKey, Store, Write};

use crate::support::{Dir, Open, batch, import, sized_message};

const PATH_VARIABLE: &str = "RUNNER_STORE_POWER_PATH";
const SEED_VARIABLE: &str = "RUNNER_STORE_POWER_SEED";
const SECTOR: usize = 512;
const DATA: &str = "data";
const ROUNDS: u64 = 60;

/// Splitmix64: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % n
    }
}

/// The messages of a batch.
fn ids(token: u64) -> impl Iterator<Item = String> {
    (0..1 + token % 3).map(move |n| format!("{token}-{n}"))
}

#[test]
#[ignore = "the child of the power loss tests; does nothing by itself"]
fn child() {
    let Ok(path) = std::env::var(PATH_VARIABLE) else { return };
    let mut dice = Dice(std::env::var(SEED_VARIABLE).unwrap().parse().unwrap());
    let (signal, ready) = std::sync::mpsc::channel();
    let notify = Box::new(move || signal.send(()).unwrap());
    // A small log, so that cuts also hit checkpoints.
    let options = Options { wal_limit_bytes: 64 * 1024, ..Options::default() };
    let (store, _) = Store::open(&path, options, notify).unwrap();
    store.import(import("s0", 0)).unwrap();
    let mut answers = fs::File::create(Path::new(&path).with_file_name("answers")).unwrap();
    answers.write_all(b"begun\n").unwrap();
    let (mut token, mut completions) = (0, Vec::new());
    for round in 0..ROUNDS {
        let batches = 1 + dice.below(8);
        for _ in 0..batches {
            token += 1;
            let mut writes: Vec<_> =
                ids(token).map(|id| sized_message(&id, 100 + dice.below(3000) as usize)).collect();
            let key = RecordKey { kind: "session", id: "peer".into() };
            writes.push(Write::PutRecord { key, value: token.to_be_bytes().to_vec().into() });
            store.submit(batch(token, "s0", writes)).unwrap();
        }
        let mut left = batches;
        while left > 0 {
            ready.recv().unwrap();
            store.drain_completions(&mut completions);
            for completion in completions.drain(..) {
                let Completion::Committed { token, .. } = completion else { panic!("{completion:?}") };
                answers.write_all(format!("committed {token}\n").as_bytes()).unwrap();
                left -= 1;
            }
        }
        if dice.below(2) == 0 {
            let seqs: Vec<_> = store.take(0, 5).unwrap().iter().map(|row| row.seq).collect();
            let event = NewEvent {
                event_id: format!("event {round}"),
                name: "message".into(),
                session_id: "s0".into(),
                chat: "c".into(),
                body: vec![b'b'; 200],
                at_unix_ms: 1,
                webhooks: vec!["w".into()],
            };
            store.post(vec![event], &seqs).unwrap();
            answers.write_all(format!("posted {round}\n").as_bytes()).unwrap();
            for seq in seqs {
                answers.write_all(format!("done {seq}\n").as_bytes()).unwrap();
            }
        }
    }
    store.close();
}

#[derive(Debug)]
enum Op {
    Write { file: String, at: usize, bytes: Vec<u8> },
    Truncate { file: String, size: usize },
    Sync { file: String },
    Unlink { file: String },
    Answered(String),
}

/// What the child did, in its order.
fn record(seed: u64) -> Vec<Op> {
    let dir = Dir::new();
    let (library, log) = (dir.path().join("recorder.so"), dir.path().join("record"));
    let data = dir.path().join(DATA);
    fs::create_dir(&data).unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/recorder.c");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    assert!(compiled.expect("the C compiler that SQLite is built with").success());
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "power_loss::child"])
        .env("LD_PRELOAD", &library)
        .env("RECORD_DIR", &data)
        .env("RECORD_TO", &log)
        .env(PATH_VARIABLE, data.join("store.db"))
        .env(SEED_VARIABLE, seed.to_string())
        .stdout(Stdio::null())
        .status();
    assert!(done.unwrap().success());
    let recorded = fs::read(&log).unwrap();
    let mut rest = recorded.as_slice();
    let mut take = |n: usize| {
        let (taken, left) = rest.split_at_checked(n)?;
        rest = left;
        Some(taken)
    };
    let mut ops = Vec::new();
    while let Some(kind) = take(1) {
        let kind = kind[0];
        let path_len = u16::from_le_bytes(take(2).unwrap().try_into().unwrap());
        let path = String::from_utf8(take(usize::from(path_len)).unwrap().to_vec()).unwrap();
        let at = u64::from_le_bytes(take(8).unwrap().try_into().unwrap()) as usize;
        let len = u32::from_le_bytes(take(4).unwrap().try_into().unwrap()) as usize;
        let bytes = take(len).unwrap().to_vec();
        let file = path.rsplit('/').next().unwrap().to_owned();
        match kind {
            b'w' if file == "answers" => {
                let said = String::from_utf8(bytes).unwrap();
                ops.extend(said.lines().map(|line| Op::Answered(line.to_owned())));
            }
            b'w' => ops.push(Op::Write { file, at, bytes }),
            b't' => ops.push(Op::Truncate { file, size: at }),
            b's' => ops.push(Op::Sync { file }),
            b'u' => ops.push(Op::Unlink { file }),
            other => panic!("{other}"),
        }
    }
    ops
}

/// One file: what is on the disk for sure, and what has been written since.
#[derive(Default)]
struct Disk {
    synced: Option<Vec<u8>>,
    since: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
    Unlink,
}

impl Disk {
    /// A file that was removed does not come back.
    fn unlinked(&mut self) {
        if let Some(last) = self.since.iter().rposition(|change| matches!(change, Change::Unlink)) {
            self.synced = None;
            self.since.drain(..=last);
        }
    }

    /// The content when of what is not synced a part is kept, of which `keeps` decides piece by piece.
    fn content(&self, mut keeps: impl FnMut() -> bool) -> Option<Vec<u8>> {
        let mut content = self.synced.clone();
        for change in &self.since {
            match change {
                Change::Write(at, bytes) => {
                    let mut at = *at;
                    let mut bytes = bytes.as_slice();
                    while !bytes.is_empty() {
                        let (piece, rest) = bytes.split_at(bytes.len().min(SECTOR - at % SECTOR));
                        if keeps() {
                            let content = content.get_or_insert_default();
                            content.resize(content.len().max(at + piece.len()), 0);
                            content[at..at + piece.len()].copy_from_slice(piece);
                        }
                        at += piece.len();
                        bytes = rest;
                    }
                }
                Change::Truncate(size) if keeps() => content.get_or_insert_default().resize(*size, 0),
                Change::Unlink if keeps() => content = None,
                Change::Truncate(_) | Change::Unlink => {}
            }
        }
        content
    }
}

/// Where and how the power goes.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Place in the record, of 10,000.
    at: u64,
    /// How much of what was not synced is on the disk, in percent.
    kept: u64,
    seed: u64,
}

fn cut() -> impl Strategy<Value = Cut> {
    let kept = prop_oneof![Just(0), Just(100), 1..100_u64];
    (0..10_000_u64, kept, any::<u64>()).prop_map(|(at, kept, seed)| Cut { at, kept, seed })
}

/// The files as they are found after a cut, and what was answered before it.
fn after(ops: &[Op], cut: Cut, hears_syncs: bool, dir: &Dir) -> Vec<String> {
    let mut disks: BTreeMap<&str, Disk> = BTreeMap::new();
    let mut answered = Vec::new();
    let place = usize::try_from(cut.at).unwrap() * ops.len() / 10_000;
    for op in &ops[..place] {
        match op {
            Op::Answered(what) => answered.push(what.clone()),
            Op::Write { file, at, bytes } => {
                disks.entry(file).or_default().since.push(Change::Write(*at, bytes.clone()));
            }
            Op::Truncate { file, size } => disks.entry(file).or_default().since.push(Change::Truncate(*size)),
            Op::Unlink { file } => disks.entry(file).or_default().since.push(Change::Unlink),
            // Of the directory: what was removed stays away.
            Op::Sync { file } if hears_syncs && file == DATA => disks.values_mut().for_each(Disk::unlinked),
            Op::Sync { file } if hears_syncs => {
                let disk = disks.entry(file).or_default();
                disk.synced = disk.content(|| true);
                disk.since.clear();
            }
            Op::Sync { .. } => {}
        }
    }
    let mut dice = Dice(cut.seed);
    for (name, disk) in disks {
        // Rebuilt by whoever opens the file first; a crash leaves anything in it.
        if name.ends_with("-shm") || name.ends_with(".lock") {
            continue;
        }
        if let Some(content) = disk.content(|| dice.below(100) < cut.kept) {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
    answered
}

/// Opens what is left: everything that was answered is there, whole, and of the rest whole batches or nothing.
fn judge(ops: &[Op], cut: Cut, hears_syncs: bool) -> Result<(), String> {
    let dir = Dir::new();
    let answered = after(ops, cut, hears_syncs, &dir);
    if answered.is_empty() {
        return Ok(()); // the import was not answered: whoever asked for it asks again
    }
    let open = Open::try_at(&dir).map_err(|error| format!("does not open: {error}"))?;
    let report = open.report.lines.clone();
    if !report.is_empty() {
        return Err(format!("reports damage: {report:?}"));
    }
    let devices = open.store.device("s0").map(|_| ()).map_err(|error| format!("{error:?}"));
    devices?;
    open.store.close();
    let sqlite = dir.sqlite();
    let one = |sql: &str| sqlite.query_row(sql, [], |row| row.get::<_, String>(0)).map_err(|e| e.to_string());
    let sound = one("PRAGMA integrity_check")?;
    if sound != "ok" {
        return Err(sound);
    }
    let all = |sql: &str| -> BTreeSet<String> {
        let mut statement = sqlite.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let kept = all("SELECT message_id FROM inbox");
    let record: Vec<u8> = sqlite
        .query_row("SELECT value FROM signal_key WHERE kind = 'session' AND id = 'peer'", [], |row| {
            row.get(0)
        })
        .unwrap_or_else(|_| vec![0; 8]);
    let through = u64::from_be_bytes(record.try_into().unwrap());
    let expected: BTreeSet<_> = (1..=through).flat_map(ids).collect();
    if kept != expected {
        return Err(format!("{} messages with a session that has read {}", kept.len(), expected.len()));
    }
    let waiting = all("SELECT CAST(seq AS TEXT) FROM pending");
    let events = all("SELECT event_id FROM event");
    for said in answered {
        let lost = match said.split_once(' ') {
            Some(("committed", token)) => token.parse::<u64>().unwrap() > through,
            Some(("posted", round)) => !events.contains(&format!("event {round}")),
            Some(("done", seq)) => waiting.contains(seq),
            _ => false,
        };
        if lost {
            return Err(format!("lost: {said}"));
        }
    }
    Ok(())
}

/// Pains 3 and 11.
#[test]
fn what_was_answered_survives_a_power_cut_at_any_place() {
    for seed in 1..=2 {
        let ops = record(seed);
        let of = |is: fn(&Op) -> bool| ops.iter().filter(|op| is(op)).count();
        assert!(of(|op| matches!(op, Op::Sync { .. })) > 60, "the recorder hears nothing");
        assert!(of(|op| matches!(op, Op::Answered(_))) > 60);
        assert!(of(|op| matches!(op, Op::Truncate { .. })) > 2, "checkpoints are among it");
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 48,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let outcome = runner.run(&cut(), |cut| judge(&ops, cut, true).map_err(TestCaseError::fail));
        outcome.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The same with `synchronous=OFF`, that is to say with syncs that nobody hears: the test must notice.
#[test]
fn without_syncs_answered_messages_are_lost_and_that_is_noticed() {
    let ops = record(3);
    let cuts = (0..20).map(|n| Cut { at: 5_000 + 200 * n, kept: 50, seed: n });
    let lost = cuts.filter(|cut| judge(&ops, *cut, false).is_err()).count();
    assert!(lost >= 15, "{lost}");
}
