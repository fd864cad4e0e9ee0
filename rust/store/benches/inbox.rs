//! Inbox commits: what a message costs in groups of 1 to 4,096 (one fsync a group), and what reading them costs.
//!
//! `cargo bench -p runner-store`. The directory is under `TMPDIR`: name one on the disk that is to be measured.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::path::PathBuf;
use std::sync::mpsc;

use divan::Bencher;
use divan::counter::ItemsCount;
use runner_store::{Batch, Completion, Content, Credentials, Import, Options, Secret32, Store, Write};

fn main() {
    divan::main();
}

struct Bench {
    store: Store,
    ready: mpsc::Receiver<()>,
    directory: PathBuf,
    next: u64,
}

impl Bench {
    fn open(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("runner-store-bench-{}-{name}", std::process::id()));
        let (signal, ready) = mpsc::channel();
        let notify = Box::new(move || {
            let _ = signal.send(());
        });
        let (store, _) = Store::open(directory.join("store.db"), Options::default(), notify).unwrap();
        let secret = || Secret32::from([1; 32]);
        let credentials = Credentials {
            jid: "15550001111:3@s.whatsapp.net".into(),
            lid: None,
            push_name: None,
            platform: None,
            registration_id: 1,
            noise_secret: secret(),
            identity_secret: secret(),
            signed_pre_key_id: 1,
            signed_pre_key_secret: secret(),
            signed_pre_key_signature: [0; 64],
            adv_secret: secret(),
            account: None,
        };
        let session_id = "s".to_owned();
        let import = Import {
            session_id,
            credentials,
            routing_info: None,
            source: Vec::new().into(),
            keys: Vec::new(),
        };
        store.import(import).unwrap();
        Self { store, ready, directory, next: 0 }
    }

    /// A group of `n` batches of one message each, 1 KiB a stanza.
    fn submit(&mut self, n: u64) {
        for _ in 0..n {
            self.next += 1;
            let write = Write::Inbox {
                chat: "15550009999@s.whatsapp.net".into(),
                sender: "15550009999@s.whatsapp.net".into(),
                message_id: format!("3EB0{:016X}", self.next),
                stanza: vec![7; 768],
                content: Content::Plain(vec![7; 256]),
                received_unix_ms: 1_700_000_000_000,
            };
            let batch = Batch { token: self.next, session_id: "s".into(), writes: vec![write] };
            self.store.submit(batch).unwrap();
        }
    }

    fn wait(&self, n: u64) {
        let mut completions = Vec::new();
        while (completions.len() as u64) < n {
            self.ready.recv().unwrap();
            self.store.drain_completions(&mut completions);
        }
        assert!(completions.iter().all(|c| matches!(c, Completion::Committed { .. })));
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.store.close();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Submit to answer. The default 2 ms of gathering is part of it, as it is in life.
#[divan::bench(args = [1, 16, 256, 4096], sample_count = 30, sample_size = 1)]
fn commit(bencher: Bencher<'_, '_>, group: u64) {
    let mut bench = Bench::open(&format!("commit-{group}"));
    bencher.counter(ItemsCount::new(group)).bench_local(|| {
        bench.submit(group);
        bench.wait(group);
    });
    let health = bench.store.health();
    let fsyncs = health.commits_total + 2 * health.checkpoints_total;
    eprintln!("commit, groups of {group}: {fsyncs} fsyncs for {} messages", health.inbox_rows_total);
}

/// A consumer's turn: take a page of messages.
#[divan::bench(args = [1, 100, 1000])]
fn take(bencher: Bencher<'_, '_>, n: usize) {
    let mut bench = Bench::open(&format!("take-{n}"));
    bench.submit(5000);
    bench.wait(5000);
    bencher.counter(ItemsCount::new(n)).bench_local(|| bench.store.take(2000, n).unwrap());
}
