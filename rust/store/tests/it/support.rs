//! Directories, sample values, and waiting for completions.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use runner_store::{
    Batch, Completion, Content, Credentials, Import, OpenReport, Options, Secret32, SignalKey, Store,
    StoreError, Write,
};

/// A loose ceiling for anything that waits: far above any healthy disk.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory that goes away with the test.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("runner-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.0.join("store.db")
    }

    pub(crate) fn wal(&self) -> PathBuf {
        self.0.join("store.db-wal")
    }

    /// Names in the directory that contain `part`.
    pub(crate) fn names(&self, part: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(part))
            .collect();
        names.sort();
        names
    }

    /// A plain SQLite connection to the file, as a tool of the operator would open it.
    pub(crate) fn sqlite(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.db()).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An open store whose completions a test can wait for.
pub(crate) struct Open {
    pub(crate) store: Store,
    pub(crate) report: OpenReport,
    ready: mpsc::Receiver<()>,
}

impl Open {
    pub(crate) fn at(dir: &Dir) -> Self {
        Self::with(dir, Options { group_commit: Duration::ZERO, ..Options::default() })
    }

    pub(crate) fn with(dir: &Dir, options: Options) -> Self {
        Self::try_with(dir, options).unwrap()
    }

    pub(crate) fn try_at(dir: &Dir) -> Result<Self, StoreError> {
        Self::try_with(dir, Options::default())
    }

    pub(crate) fn try_with(dir: &Dir, options: Options) -> Result<Self, StoreError> {
        let (signal, ready) = mpsc::channel();
        let notify = Box::new(move || {
            let _ = signal.send(());
        });
        let (store, report) = Store::open(dir.db(), options, notify)?;
        Ok(Self { store, report, ready })
    }

    /// With sessions `s0`, `s1` … imported.
    pub(crate) fn with_sessions(dir: &Dir, n: u32) -> Self {
        let open = Self::at(dir);
        for i in 0..n {
            open.store.import(import(&format!("s{i}"), i)).unwrap();
        }
        open
    }

    /// The next `n` completions.
    pub(crate) fn wait(&self, n: usize) -> Vec<Completion> {
        let completions = self.wait_for(n);
        assert_eq!(completions.len(), n, "one completion for each submit");
        completions
    }

    /// At least `n` completions.
    pub(crate) fn wait_for(&self, n: usize) -> Vec<Completion> {
        let mut completions = Vec::new();
        while completions.len() < n {
            self.ready.recv_timeout(PATIENCE).expect("the store answers");
            self.store.know_failures(self.store.drain_completions(&mut completions));
            completions.retain(|completion| *completion != Completion::Recovered);
        }
        completions
    }

    /// Submits one batch and waits for its outcome.
    pub(crate) fn commit(&self, batch: Batch) -> Result<u32, StoreError> {
        self.store.submit(batch)?;
        match self.wait(1).remove(0) {
            Completion::Committed { applied, .. } => Ok(applied.inbox_rows),
            Completion::Failed { error, .. } => Err(error),
            other => panic!("only a batch was submitted: {other:?}"),
        }
    }

    /// Waits until the store says that it is well again.
    pub(crate) fn wait_recovered(&self) {
        let mut completions = Vec::new();
        while !completions.contains(&Completion::Recovered) {
            self.ready.recv_timeout(PATIENCE).expect("the store recovers");
            self.store.know_failures(self.store.drain_completions(&mut completions));
        }
    }

    /// Waits until something is completed, and does not look at it.
    pub(crate) fn wait_failed(&self) {
        self.ready.recv_timeout(PATIENCE).expect("the store answers");
        assert_eq!(self.store.health().failed_total, 1);
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.store.take(0, usize::MAX).unwrap().into_iter().map(|m| m.message_id).collect()
    }
}

pub(crate) fn credentials(seed: u32) -> Credentials {
    let fill = 100 + u8::try_from(seed % 100).unwrap();
    Credentials {
        jid: format!("1555{seed:07}:3@s.whatsapp.net"),
        lid: Some(format!("9{seed:09}:3@lid")),
        push_name: Some("Shop".into()),
        platform: None,
        registration_id: seed,
        noise_secret: Secret32::from([fill; 32]),
        identity_secret: Secret32::from([fill ^ 1; 32]),
        signed_pre_key_id: 1,
        signed_pre_key_secret: Secret32::from([fill ^ 2; 32]),
        signed_pre_key_signature: [fill; 64],
        adv_secret: Secret32::from([fill ^ 3; 32]),
        account: Some(vec![fill; 100]),
    }
}

pub(crate) fn import(session_id: &str, seed: u32) -> Import {
    let key =
        |kind: &str, id: String, value: Vec<u8>| SignalKey { kind: kind.into(), id, value: value.into() };
    let mut keys: Vec<_> = (0..20).map(|i| key("pre-key", format!("{i:02}"), vec![7; 80])).collect();
    keys.push(key("a type of tomorrow", "x/y:z".into(), vec![0, 255, 10]));
    Import {
        session_id: session_id.into(),
        credentials: credentials(seed),
        routing_info: Some(vec![8, 2]),
        source: br#"{"noiseKey":1}"#.to_vec().into(),
        keys,
    }
}

pub(crate) fn message(message_id: &str) -> Write {
    sized_message(message_id, 200)
}

pub(crate) fn sized_message(message_id: &str, bytes: usize) -> Write {
    Write::Inbox {
        chat: "15550009999@s.whatsapp.net".into(),
        sender: "15550009999@s.whatsapp.net".into(),
        message_id: message_id.into(),
        stanza: vec![b'm'; bytes],
        content: Content::Plain(b"\x0a\x02hi".to_vec()),
        received_unix_ms: 1_700_000_000_000,
    }
}

pub(crate) fn batch(token: u64, session_id: &str, writes: Vec<Write>) -> Batch {
    Batch { token, session_id: session_id.into(), writes }
}

/// From now on a write of the message `poison` fails its transaction.
pub(crate) fn poison(dir: &Dir) {
    dir.sqlite()
        .execute_batch(
            "CREATE TRIGGER poison BEFORE INSERT ON inbox WHEN NEW.message_id = 'poison'
             BEGIN SELECT RAISE(ABORT, 'injected'); END",
        )
        .unwrap();
}

impl Open {
    /// Waits for some completions; returns how many came.
    pub(crate) fn wait_some(&self) -> u64 {
        self.ready.recv_timeout(PATIENCE).expect("the store answers");
        let mut completions = Vec::new();
        self.store.know_failures(self.store.drain_completions(&mut completions));
        completions.len() as u64
    }
}
