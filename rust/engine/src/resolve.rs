//! Name resolution off the I/O thread: `getaddrinfo` blocks, for up to half a minute when a name server is gone.
//!
//! One lookup per name at a time, however many sessions ask; answers are kept for a short while in a bounded cache, which
//! belongs to the I/O thread. A few threads, started when first needed, so that one dead proxy name does not hold up
//! the endpoint's.

use runner_proto::time::Instant;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Threads that may wait for name servers at once.
const MAX_THREADS: usize = 4;
/// How long addresses are used again. `getaddrinfo` says no TTL; a storm of dials is shorter than this, and a changed
/// address is found by the attempt after it.
const KEEP: Duration = Duration::from_secs(30);
/// How long a failure is used again: long enough that a storm asks once.
const KEEP_FAILURE: Duration = Duration::from_secs(1);
/// Names kept; more than the distinct proxies of a large fleet.
const MAX_NAMES: usize = 1024;

/// What a lookup ended with; the error as text, because it goes to a close reason's detail.
pub(crate) type Answer = Result<Arc<[IpAddr]>, Arc<str>>;
/// The blocking lookup, replaced in tests.
pub(crate) type Lookup = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// The I/O thread's side: cache and requests.
pub(crate) struct Resolver {
    cache: HashMap<Arc<str>, Cached>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Starts a thread; replaced in tests.
    spawn: fn(Arc<Shared>) -> io::Result<JoinHandle<()>>,
}

enum Cached {
    Pending,
    Known { answer: Answer, until: Instant },
}

struct Shared {
    queues: Mutex<Queues>,
    work: Condvar,
    lookup: Box<Lookup>,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Queues {
    wanted: VecDeque<Arc<str>>,
    found: Vec<(Arc<str>, Answer)>,
    idle: usize,
    closed: bool,
}

impl Resolver {
    /// `wake` is called from a resolver thread when an answer is ready.
    pub(crate) fn new(lookup: Box<Lookup>, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        let shared = Shared { queues: Mutex::default(), work: Condvar::new(), lookup, wake };
        Self { cache: HashMap::new(), shared: Arc::new(shared), threads: Vec::new(), spawn }
    }

    /// The answer when it is known (always for an address literal); else asks, and
    /// [`take_found`](Self::take_found) will have it.
    pub(crate) fn resolve(&mut self, host: &str, now: Instant) -> Option<Answer> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Ok(Arc::from([address])));
        }
        match self.cache.get(host) {
            Some(Cached::Pending) => {
                self.staff();
                return None;
            }
            Some(Cached::Known { answer, until }) if now < *until => return Some(answer.clone()),
            _ => {}
        }
        self.make_room(now);
        let host: Arc<str> = Arc::from(host);
        self.cache.insert(Arc::clone(&host), Cached::Pending);
        self.shared.lock().wanted.push_back(host);
        self.staff();
        self.shared.work.notify_one();
        None
    }

    /// Starts a thread when names wait for one. When the system gives none, they wait for an older thread or for
    /// whoever asks next.
    fn staff(&mut self) {
        let queues = self.shared.lock();
        let enough = queues.idle >= queues.wanted.len();
        drop(queues);
        if !enough && self.threads.len() < MAX_THREADS {
            self.threads.extend((self.spawn)(Arc::clone(&self.shared)).ok());
        }
    }

    /// The names answered since the last call, with their answers.
    pub(crate) fn take_found(&mut self, now: Instant) -> Vec<(Arc<str>, Answer)> {
        let found = std::mem::take(&mut self.shared.lock().found);
        for (host, answer) in &found {
            let until = now + if answer.is_ok() { KEEP } else { KEEP_FAILURE };
            self.cache.insert(Arc::clone(host), Cached::Known { answer: answer.clone(), until });
        }
        found
    }

    fn make_room(&mut self, now: Instant) {
        if self.cache.len() >= MAX_NAMES {
            self.cache.retain(|_, cached| match cached {
                Cached::Pending => true,
                Cached::Known { until, .. } => now < *until,
            });
        }
        if self.cache.len() >= MAX_NAMES {
            self.cache.retain(|_, cached| matches!(cached, Cached::Pending));
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        // Not joined: a thread may be inside `getaddrinfo` for half a minute. It owns nothing but the queues.
    }
}

fn spawn(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("runner-resolve".into()).spawn(move || shared.run())
}

impl Shared {
    fn run(&self) {
        let mut queues = self.lock();
        while !queues.closed {
            if let Some(host) = queues.wanted.pop_front() {
                drop(queues);
                let answer =
                    (self.lookup)(&host).map(Arc::from).map_err(|error| Arc::from(error.to_string()));
                queues = self.lock();
                queues.found.push((host, answer));
                (self.wake)();
            } else {
                queues.idle += 1;
                queues = self.work.wait(queues).unwrap_or_else(PoisonError::into_inner);
                queues.idle -= 1;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The operating system's lookup. Blocking.
pub(crate) fn system_lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|address: SocketAddr| address.ip()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    struct Bench {
        resolver: Resolver,
        woken: mpsc::Receiver<()>,
        lookups: Arc<AtomicUsize>,
    }

    fn bench(answer: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Bench {
        let (wake, woken) = mpsc::channel();
        let lookups = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lookups);
        let lookup = move |host: &str| {
            counted.fetch_add(1, Ordering::SeqCst);
            answer(host)
        };
        let resolver = Resolver::new(Box::new(lookup), Box::new(move || _ = wake.send(())));
        Bench { resolver, woken, lookups }
    }

    impl Bench {
        fn wait_found(&mut self, now: Instant) -> Vec<(Arc<str>, Answer)> {
            self.woken.recv_timeout(Duration::from_secs(10)).expect("an answer");
            self.resolver.take_found(now)
        }
    }

    #[test]
    fn one_lookup_serves_all_who_ask_until_it_expires() {
        let mut bench = bench(|_| Ok(vec![LOCAL]));
        let now = Instant::default();
        assert!(bench.resolver.resolve("host", now).is_none());
        assert!(bench.resolver.resolve("host", now).is_none());
        let found = bench.wait_found(now);
        assert_eq!(found.len(), 1);
        let just_before = Instant::from_micros(KEEP.as_micros() as u64 - 1);
        assert_eq!(bench.resolver.resolve("host", just_before), Some(Ok(Arc::from([LOCAL]))));
        assert_eq!(bench.lookups.load(Ordering::SeqCst), 1);
        assert!(bench.resolver.resolve("host", now + KEEP).is_none(), "asked again");
        bench.wait_found(now + KEEP);
        assert_eq!(bench.lookups.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_failure_is_remembered_for_a_moment_only() {
        let mut bench = bench(|_| Err(io::Error::other("no such host")));
        let now = Instant::default();
        assert!(bench.resolver.resolve("host", now).is_none());
        let found = bench.wait_found(now);
        assert_eq!(found[0].1, Err(Arc::from("no such host")));
        assert!(bench.resolver.resolve("host", now).is_some());
        assert!(bench.resolver.resolve("host", now + KEEP_FAILURE).is_none());
    }

    #[test]
    fn a_hanging_name_does_not_hold_up_another() {
        let (release, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let mut bench = bench(move |host| {
            if host == "hangs" {
                let _ = gate.lock().expect("gate").recv();
            }
            Ok(vec![LOCAL])
        });
        let now = Instant::default();
        assert!(bench.resolver.resolve("hangs", now).is_none());
        assert!(bench.resolver.resolve("answers", now).is_none());
        assert_eq!(&*bench.wait_found(now)[0].0, "answers");
        drop(release);
        assert_eq!(&*bench.wait_found(now)[0].0, "hangs");
    }

    #[test]
    fn a_name_asked_for_when_no_thread_could_start_is_looked_up_when_one_can() {
        let mut bench = bench(|_| Ok(vec![LOCAL]));
        let now = Instant::default();
        bench.resolver.spawn = |_| Err(io::ErrorKind::WouldBlock.into());
        assert!(bench.resolver.resolve("host", now).is_none());
        bench.resolver.spawn = spawn;
        assert!(bench.resolver.resolve("host", now).is_none());
        assert_eq!(bench.wait_found(now).len(), 1);
    }

    #[test]
    fn literals_need_no_lookup() {
        let mut bench = bench(|_| Ok(vec![]));
        assert_eq!(bench.resolver.resolve("127.0.0.1", Instant::default()), Some(Ok(Arc::from([LOCAL]))));
        assert_eq!(bench.lookups.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut bench = bench(|_| Ok(vec![LOCAL]));
        let now = Instant::default();
        for index in 0..MAX_NAMES + 5 {
            let host: Arc<str> = Arc::from(format!("host-{index}"));
            bench.resolver.make_room(now);
            let until = now + KEEP;
            bench.resolver.cache.insert(host, Cached::Known { answer: Ok(Arc::from([LOCAL])), until });
        }
        assert!(bench.resolver.cache.len() <= MAX_NAMES);
    }
}
