//! The I/O loop spike: what one idle TLS session costs and what one small frame costs, on two loops.
//!
//! `io-loop-spike server PORT N RATE SECONDS` accepts N sessions, then pushes 40-byte records to random
//! sessions at RATE per second for SECONDS.
//! `io-loop-spike mio|tokio PORT N RATE SECONDS` connects N sessions, reports the RSS slope, then answers every
//! record that arrives with 30 bytes and reports CPU, wake-ups (voluntary switches) and records.
//! Both loops share the TLS code, the 64 KiB read buffer and the write buffer; both keep one deadline per session.

mod mio_loop;
mod server;
mod tls;
mod tokio_loop;

use std::time::{Duration, Instant};

pub struct Args {
    pub port: u16,
    pub sessions: usize,
    pub rate: u32,
    pub seconds: u64,
}

/// What a client loop saw while records were pushed to it.
pub struct Outcome {
    pub rss_before_kib: u64,
    pub rss_half_kib: u64,
    pub rss_all_kib: u64,
    pub usage_before: Usage,
    pub usage_after: Usage,
    pub records: u64,
    pub wakeups: Option<u64>,
    pub polled: Duration,
}

#[derive(Clone, Copy)]
pub struct Usage {
    pub cpu: Duration,
    pub user: Duration,
    pub switches: i64,
}

pub fn usage() -> Usage {
    let mut raw: libc::rusage = unsafe { std::mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut raw) };
    let duration = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    let user = duration(raw.ru_utime);
    Usage { cpu: user + duration(raw.ru_stime), user, switches: raw.ru_nvcsw }
}

pub fn rss_kib() -> u64 {
    unsafe { libc::malloc_trim(0) };
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |i: usize| args[i].parse::<u64>().expect("a number");
    let parsed = Args {
        port: number(2) as u16,
        sessions: number(3) as usize,
        rate: number(4) as u32,
        seconds: number(5),
    };
    let started = Instant::now();
    let outcome = match args[1].as_str() {
        "server" => return server::run(&parsed),
        "mio" => mio_loop::run(&parsed),
        "tokio" => tokio_loop::run(&parsed),
        other => panic!("unknown loop {other}"),
    };
    let n = parsed.sessions as u64;
    let cpu = outcome.usage_after.cpu - outcome.usage_before.cpu;
    let user = outcome.usage_after.user - outcome.usage_before.user;
    println!(
        "{{\"loop\":\"{}\",\"sessions\":{n},\"rate\":{},\"bytes_per_session\":{},\"bytes_per_session_second_half\":{},\
         \"records\":{},\"cpu_us_per_record\":{:.2},\"user_us_per_record\":{:.2},\"switches_per_record\":{:.3},\"wakeups_per_record\":{:.3},\
         \"cpu_percent\":{:.1},\"total_s\":{:.1}}}",
        args[1],
        parsed.rate,
        (outcome.rss_all_kib - outcome.rss_before_kib) * 1024 / n,
        (outcome.rss_all_kib - outcome.rss_half_kib) * 1024 / (n - n / 2),
        outcome.records,
        cpu.as_secs_f64() * 1e6 / outcome.records as f64,
        user.as_secs_f64() * 1e6 / outcome.records as f64,
        (outcome.usage_after.switches - outcome.usage_before.switches) as f64 / outcome.records as f64,
        outcome.wakeups.map_or(f64::NAN, |w| w as f64 / outcome.records as f64),
        cpu.as_secs_f64() / outcome.polled.as_secs_f64() * 100.0,
        started.elapsed().as_secs_f64(),
    );
}
