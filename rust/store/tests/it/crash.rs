//! `kill -9` under load: what was confirmed is there.
//!
//! The child is this test executable again. It commits as fast as it can and prints each confirmed id; the
//! parent kills it at some line and then opens the store.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use runner_store::{Completion, Options, Store};

use crate::support::{Dir, Open, batch, credentials, message};

const PATH_VARIABLE: &str = "RUNNER_STORE_CRASH_PATH";
const ROUNDS: usize = 25;

#[test]
#[ignore = "the child of the crash tests; does nothing by itself"]
fn child() {
    let Ok(path) = std::env::var(PATH_VARIABLE) else { return };
    let (signal, ready) = std::sync::mpsc::channel();
    let notify = Box::new(move || signal.send(()).unwrap());
    // A small log, so that kills also hit checkpoints.
    let options = Options { wal_limit_bytes: 64 * 1024, ..Options::default() };
    let (store, report) = Store::open(path, options, notify).unwrap();
    assert!(report.lines.is_empty(), "{report:?}");
    let start = store.take(0, usize::MAX).unwrap().len() as u64;
    let mut out = std::io::stdout();
    let mut completions = Vec::new();
    for round in 0.. {
        for i in 0..40 {
            let id = start + round * 40 + i;
            store.submit(batch(id, "s0", vec![message(&format!("{id}-{}", std::process::id()))])).unwrap();
        }
        store.put_policy("s0", format!("{round}"));
        let mut left = 40;
        while left > 0 {
            ready.recv().unwrap();
            store.drain_completions(&mut completions);
            for completion in completions.drain(..) {
                let Completion::Committed { token, .. } = completion else { panic!("{completion:?}") };
                writeln!(out, "ok {token}-{}", std::process::id()).unwrap();
                left -= 1;
            }
            out.flush().unwrap();
        }
    }
}

fn spawn(dir: &Dir) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "crash::child", "--nocapture"])
        .env(PATH_VARIABLE, dir.db())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Pains 3 and 11.
#[test]
fn every_confirmed_message_survives_kill_9() {
    let dir = Dir::new();
    drop(Open::with_sessions(&dir, 1));
    let mut confirmed = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut child = spawn(&dir);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // A different number each round, so that the kill falls into different places of a group.
        let enough = 1 + round * 37 % 400;
        let mut seen = 0;
        for line in lines.by_ref() {
            if let Some(id) = line.unwrap().strip_prefix("ok ") {
                confirmed.insert(id.to_owned());
                seen += 1;
                if seen >= enough {
                    break;
                }
            }
        }
        assert_eq!(seen, enough, "the child runs until it is killed");
        child.kill().unwrap();
        child.wait().unwrap();
        confirmed
            .extend(lines.map_while(Result::ok).filter_map(|l| l.strip_prefix("ok ").map(str::to_owned)));

        let open = Open::at(&dir);
        assert!(open.report.lines.is_empty(), "{:?}", open.report);
        let stored: BTreeSet<_> = open.ids().into_iter().collect();
        let lost: Vec<_> = confirmed.difference(&stored).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?}");
        assert_eq!(open.store.device("s0").unwrap().credentials, credentials(0));
    }
    assert!(confirmed.len() > ROUNDS * 40);
}

#[test]
fn second_process_is_refused_and_names_the_first() {
    let dir = Dir::new();
    drop(Open::with_sessions(&dir, 1));
    let mut child = spawn(&dir);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().starts_with("ok ")), "the child has the store");
    let error = Open::try_at(&dir).map(|_| ()).unwrap_err();
    assert_eq!(error.kind.slug(), "locked");
    assert!(error.message.contains(&format!("process {}", child.id())), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    Open::at(&dir);
}
