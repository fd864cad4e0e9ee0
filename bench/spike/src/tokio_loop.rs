//! `tokio`, current-thread runtime, one task a session, the thread's buffers shared through a `RefCell`.

use crate::tls::{Buffers, Tls, client_config};
use crate::{Args, Outcome, rss_kib, usage};
use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

pub fn run(args: &Args) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, drive(args))
}

async fn drive(args: &Args) -> Outcome {
    let config = client_config();
    let buffers = Rc::new(RefCell::new(Buffers::new()));
    let records = Rc::new(Cell::new(0_u64));
    let rss_before_kib = rss_kib();
    let mut rss_half_kib = 0;
    for index in 0..args.sessions {
        if index == args.sessions / 2 {
            rss_half_kib = rss_kib();
        }
        let stream = TcpStream::connect(("127.0.0.1", args.port)).await.expect("connect");
        let mut tls = Tls::new(&config);
        {
            let mut b = buffers.borrow_mut();
            tls.start(&mut b);
            flush(&stream, &mut b);
        }
        while !tls.online {
            stream.readable().await.expect("readable");
            pump(&stream, &mut tls, &mut buffers.borrow_mut());
        }
        tokio::task::spawn_local(session(stream, tls, Rc::clone(&buffers), Rc::clone(&records)));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let rss_all_kib = rss_kib();
    let metrics = tokio::runtime::Handle::current().metrics();
    let (usage_before, parks, seen, started) = (usage(), metrics.worker_park_count(0), records.get(), Instant::now());
    tokio::time::sleep(Duration::from_secs(args.seconds + 1)).await;
    Outcome {
        rss_before_kib,
        rss_half_kib,
        rss_all_kib,
        usage_before,
        usage_after: usage(),
        records: records.get() - seen,
        wakeups: Some(metrics.worker_park_count(0) - parks),
        polled: started.elapsed(),
    }
}

/// The idiomatic shape: a task that waits for its socket or its keep-alive deadline.
async fn session(stream: TcpStream, mut tls: Tls, buffers: Rc<RefCell<Buffers>>, records: Rc<Cell<u64>>) {
    let sleep = tokio::time::sleep(Duration::from_secs(3600));
    tokio::pin!(sleep);
    loop {
        tokio::select! {
            ready = stream.readable() => {
                ready.expect("readable");
                match pump(&stream, &mut tls, &mut buffers.borrow_mut()) {
                    Some(n) => records.set(records.get() + n),
                    None => return,
                }
            }
            () = &mut sleep => return,
        }
    }
}

fn pump(stream: &TcpStream, tls: &mut Tls, buffers: &mut Buffers) -> Option<u64> {
    match tls.pump(buffers, |room| stream.try_read(room)) {
        Ok(Some(n)) => {
            flush(stream, buffers);
            Some(n)
        }
        Ok(None) => None,
        Err(e) if e.kind() == ErrorKind::WouldBlock => Some(0),
        Err(e) => panic!("{e}"),
    }
}

fn flush(stream: &TcpStream, buffers: &mut Buffers) {
    if !buffers.write.is_empty() {
        stream.try_write(&buffers.write).expect("loopback takes it");
        buffers.write.clear();
    }
}
