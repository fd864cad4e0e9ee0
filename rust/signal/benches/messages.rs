//! Messages in and out: records are bytes before and after, as the client has them.
//!
//!     cargo bench -p runner-signal

use divan::{Bencher, black_box};
use runner_signal::fuzz::{Commit, Device, Steps};
use runner_signal::session::{self, Ciphertext};
use runner_signal::{
    PreKey, PreKeySignalMessage, SenderKeyDistribution, SenderKeyMessage, SignalMessage, group,
};

fn main() {
    divan::main();
}

/// A short text with its padding.
const TEXT: [u8; 60] = [7; 60];

fn send(device: &mut Device) -> Ciphertext {
    device.encrypt(&TEXT, 1, Commit::Done).expect("a session")
}

/// Two devices that have written to each other; the second one's ratchet turns when it writes next.
fn acquainted() -> (Device, Device) {
    let (mut a, mut b) = (Device::new(1), Device::new(2));
    a.start(&b.bundle(true));
    for _ in 0..2 {
        let question = send(&mut a);
        b.decrypt(&question, Commit::Done).expect("a good message");
        let answer = send(&mut b);
        a.decrypt(&answer, Commit::Done).expect("a good message");
    }
    let last = send(&mut a);
    b.decrypt(&last, Commit::Done).expect("a good message");
    (a, b)
}

#[divan::bench]
fn encrypt(bencher: Bencher<'_, '_>) {
    let (a, _) = acquainted();
    let mut steps = Steps(1);
    bencher.bench_local(|| {
        let record = black_box(a.record());
        session::encrypt(&a.identity, record, &TEXT, &mut |bytes| steps.fill(bytes))
    });
}

#[divan::bench]
fn encrypt_leased(bencher: Bencher<'_, '_>) {
    let (a, _) = acquainted();
    let mut steps = Steps(1);
    bencher
        .with_inputs(|| {
            session::lease(&a.identity, a.record(), 1, &mut |bytes| steps.fill(bytes))
                .expect("a session")
                .lease
        })
        .bench_local_values(|mut lease| lease.encrypt(&TEXT));
}

#[divan::bench]
fn encrypt_with_a_turn(bencher: Bencher<'_, '_>) {
    let (_, b) = acquainted();
    let mut steps = Steps(1);
    bencher.bench_local(|| {
        let record = black_box(b.record());
        session::encrypt(&b.identity, record, &TEXT, &mut |bytes| steps.fill(bytes))
    });
}

/// `skipped`: message keys that the record holds beside what is needed.
#[divan::bench(args = [0, 100, 2000])]
fn decrypt(bencher: Bencher<'_, '_>, skipped: usize) {
    let (mut a, mut b) = acquainted();
    for _ in 0..skipped {
        send(&mut a);
    }
    let last = send(&mut a);
    b.decrypt(&last, Commit::Done).expect("a good message");
    let message = send(&mut a);
    bencher.bench_local(|| {
        let message = SignalMessage::parse(black_box(&message.bytes)).expect("a good message");
        session::decrypt(&b.identity, b.record(), &message)
    });
}

#[divan::bench]
fn decrypt_with_a_turn(bencher: Bencher<'_, '_>) {
    let (a, mut b) = acquainted();
    let message = send(&mut b);
    bencher.bench_local(|| {
        let message = SignalMessage::parse(black_box(&message.bytes)).expect("a good message");
        session::decrypt(&a.identity, a.record(), &message)
    });
}

/// As above, and the pre-keys are read from their records.
#[divan::bench]
fn decrypt_first_contact(bencher: Bencher<'_, '_>) {
    let (mut a, mut b) = (Device::new(1), Device::new(2));
    a.start(&b.bundle(true));
    let message = send(&mut a);
    let one_time = b.pre_keys.first_key_value().expect("one was handed out").1.clone();
    bencher.bench_local(|| {
        let message = PreKeySignalMessage::parse(black_box(&message.bytes)).expect("a good message");
        let one_time = PreKey::from_record(one_time.as_bytes()).expect("as written");
        let keys = session::NamedPreKeys { signed: Some(&b.signed), one_time: Some(&one_time) };
        session::decrypt_pre_key(&b.identity, None, keys, &message)
    });
}

#[divan::bench]
fn start(bencher: Bencher<'_, '_>) {
    let (a, mut b) = (Device::new(1), Device::new(2));
    let bundle = b.bundle(true);
    let mut steps = Steps(1);
    bencher.bench_local(|| {
        session::start(&a.identity, None, black_box(&bundle), &mut |bytes| steps.fill(bytes))
    });
}

#[divan::bench]
fn group_encrypt(bencher: Bencher<'_, '_>) {
    let mut steps = Steps(1);
    let own = group::create(&mut |bytes| steps.fill(bytes));
    bencher.bench_local(|| {
        group::encrypt(Some(black_box(own.as_bytes())), &TEXT, &mut |bytes| steps.fill(bytes))
    });
}

#[divan::bench]
fn group_decrypt(bencher: Bencher<'_, '_>) {
    let mut steps = Steps(1);
    let own = group::create(&mut |bytes| steps.fill(bytes));
    let told = group::distribution(own.as_bytes()).expect("our own");
    let told = SenderKeyDistribution::parse(&told).expect("our own");
    let theirs = group::accept(None, &told).expect("no record").expect("it is new");
    let sent = group::encrypt(Some(own.as_bytes()), &TEXT, &mut |bytes| steps.fill(bytes)).expect("our own");
    bencher.bench_local(|| {
        let message = SenderKeyMessage::parse(black_box(&sent.message)).expect("a good message");
        group::decrypt(Some(theirs.as_bytes()), &message)
    });
}
