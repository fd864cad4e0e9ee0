//! The driver: sockets, TLS, the control port, and a thread that joins them to the core.

// The bans of clippy.toml are for the core. This is the edge: clock, sockets, files and a thread.
#![allow(clippy::disallowed_methods)]

mod authority;
mod control;
mod credentials;
mod event_loop;
mod socket;
mod tls;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use mio::{Poll, Waker};
use serde_json::{Value, json};

use self::authority::Authority;
use self::event_loop::{EventLoop, OsEntropy, WAKE};
use self::socket::Buffers;
use crate::core::{Hub, Settings, World};

/// The path that clients dial; every path is accepted.
const PATH: &str = "/ws/chat";
/// The seed of a simulator that was not given one.
pub const DEFAULT_SEED: u64 = 1;

/// How a simulator starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where clients dial; 0 = any.
    pub port: u16,
    /// The control port; 0 = any.
    pub control_port: u16,
    /// Devices in the fleet.
    pub sessions: u32,
    /// Whether [`Simulator::url`] says `wss`. The port itself takes both, told apart by the first byte.
    pub tls: bool,
    /// Where the test CA and the credentials are written.
    pub directory: PathBuf,
    /// What the devices and the server's keys are made from.
    pub seed: u64,
    /// Settings to begin with.
    pub settings: Settings,
}

impl Options {
    /// Any ports, no devices, plain, default settings.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            port: 0,
            control_port: 0,
            sessions: 0,
            tls: false,
            directory: directory.into(),
            seed: DEFAULT_SEED,
            settings: Settings::default(),
        }
    }
}

/// Why a simulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken, or the machine refuses sockets.
    #[error("cannot listen on port {port}: {source}")]
    Listen {
        /// The port asked for.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// A file or directory cannot be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of an earlier run cannot be read; removing it makes a new one.
    #[error("{path} is damaged: {detail}", path = path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(rcgen::Error),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(rustls::Error),
    /// The thread or its poll cannot be made.
    #[error("cannot start the event loop: {0}")]
    Thread(io::Error),
}

/// Why a call on a running simulator has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The simulator has stopped.
    #[error("the simulator has stopped")]
    Stopped,
    /// No such route, or a body that does not fit.
    #[error("{0}")]
    Refused(String),
}

/// A request to the control port that does not come over HTTP.
struct Call {
    method: String,
    path: String,
    query: String,
    body: Vec<u8>,
    answer: SyncSender<Result<Value, CallError>>,
}

/// A running simulator. Stops when dropped.
#[derive(Debug)]
pub struct Simulator {
    url: String,
    control: String,
    root_key_hex: String,
    ca_file: PathBuf,
    credentials: PathBuf,
    info: Value,
    calls: Sender<Call>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Simulator {
    /// Writes what clients need, listens, and serves on a thread of its own.
    ///
    /// Blocking: signs certificates and writes credentials (a core makes about 2,000 devices a second).
    pub fn start(options: Options) -> Result<Self, StartError> {
        let Options { port, control_port, sessions, tls, directory, seed, settings } = options;
        std::fs::create_dir_all(&directory)
            .map_err(|source| StartError::File { path: directory.clone(), source })?;
        let directory = directory
            .canonicalize()
            .map_err(|source| StartError::File { path: directory.clone(), source })?;
        let authority = Authority::open(&directory)?;
        let mut world = World::new(seed, sessions, settings);
        world.counters.since = event_loop::unix_ms();
        let credentials = credentials::write_all(&directory, world.fleet())?;

        let (port, listeners) =
            event_loop::listen(port).map_err(|source| StartError::Listen { port, source })?;
        let control = event_loop::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, control_port)))
            .map_err(|source| StartError::Listen { port: control_port, source })?;
        let control_address = control.local_addr().map_err(StartError::Thread)?;

        let plain_url = format!("ws://127.0.0.1:{port}{PATH}");
        let tls_url = format!("wss://127.0.0.1:{port}{PATH}");
        let url = if tls { tls_url.clone() } else { plain_url.clone() };
        let control_url = format!("http://{control_address}");
        let root_key_hex = hex(&world.keys.root_public());
        let info = json!({
            "pid": std::process::id(),
            "port": port,
            "url": url,
            "plainUrl": plain_url,
            "tlsUrl": tls_url,
            "control": control_url,
            "rootKeyHex": root_key_hex,
            "staticKeyHex": hex(&world.keys.noise.public),
            "caFile": authority.ca_file,
            "credentials": credentials,
            "sessions": sessions,
        });

        let poll = Poll::new().map_err(StartError::Thread)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(StartError::Thread)?);
        let (calls, inbox) = channel();
        let mut event_loop = EventLoop {
            poll,
            hub: Hub::new(world, info.clone()),
            listeners,
            control,
            config: authority.config,
            port,
            calls: inbox,
            started: std::time::Instant::now(),
            entropy: OsEntropy,
            buffers: Buffers::new(),
            sockets: HashMap::new(),
            controls: HashMap::new(),
            next_control: 0,
            ready: Vec::new(),
            waiting: HashMap::new(),
            out: Vec::new(),
            accepting: false,
        };
        event_loop.register().map_err(StartError::Thread)?;
        let thread = std::thread::Builder::new()
            .name("runner-sim".to_owned())
            .spawn(move || event_loop.run())
            .map_err(StartError::Thread)?;
        Ok(Self {
            url,
            control: control_url,
            root_key_hex,
            ca_file: authority.ca_file,
            credentials,
            info,
            calls,
            waker,
            thread: Some(thread),
        })
    }

    /// What clients dial.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The base URL of the control port.
    pub fn control(&self) -> &str {
        &self.control
    }

    /// The root that clients must trust in the Noise handshake: 64 hex digits.
    pub fn root_key_hex(&self) -> &str {
        &self.root_key_hex
    }

    /// The CA that clients must trust in TLS, PEM.
    pub fn ca_file(&self) -> &std::path::Path {
        &self.ca_file
    }

    /// The directory that holds one credentials directory for each device.
    pub fn credentials(&self) -> &std::path::Path {
        &self.credentials
    }

    /// All of it, as `GET /info` answers.
    pub fn info(&self) -> &Value {
        &self.info
    }

    /// Asks what the control port can be asked, without HTTP. Blocks until the answer is there.
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, CallError> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let (answer, result) = sync_channel(1);
        let call = Call {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            body: if body.is_null() { Vec::new() } else { body.to_string().into_bytes() },
            answer,
        };
        self.calls.send(call).map_err(|_| CallError::Stopped)?;
        self.waker.wake().map_err(|_| CallError::Stopped)?;
        result.recv().map_err(|_| CallError::Stopped)?
    }

    /// True while the thread serves.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Waits until somebody asks it to quit, or it fails.
    pub fn wait(mut self) -> io::Result<()> {
        self.join()
    }

    /// Closes every connection and ends the thread. Blocking, short.
    pub fn stop(mut self) {
        self.quit();
    }

    fn quit(&mut self) {
        // A simulator that has already stopped has nothing to answer.
        let _ = self.call("POST", "/quit", &Value::Null);
        let _ = self.join();
    }

    fn join(&mut self) -> io::Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the simulator's thread panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.quit();
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
