//! The cost of the channel per frame and per connection: `cargo bench -p runner-proto --bench channel`.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/channel/responder.rs"]
mod responder;

fn main() {
    divan::main();
}

mod frame {
    use super::{Bencher, ItemsCount, black_box};
    use runner_proto::frame::{FrameDecoder, write};

    /// 100 frames of 64 bytes in one input.
    #[divan::bench]
    fn next_whole(bencher: Bencher<'_, '_>) {
        let mut wire = Vec::new();
        for _ in 0..100 {
            write(&mut wire, &[7; 64]).unwrap();
        }
        let mut decoder = FrameDecoder::new();
        bencher.counter(ItemsCount::new(100_usize)).bench_local(|| {
            let mut input = black_box(wire.as_mut_slice());
            while let Some(frame) = decoder.next(&mut input).unwrap() {
                black_box(frame);
            }
        });
    }

    /// 100 frames of 64 bytes, each cut in the middle.
    #[divan::bench]
    fn next_split(bencher: Bencher<'_, '_>) {
        let mut wire = Vec::new();
        for _ in 0..100 {
            write(&mut wire, &[7; 64]).unwrap();
        }
        let mut decoder = FrameDecoder::new();
        bencher.counter(ItemsCount::new(100_usize)).bench_local(|| {
            let (head, rest) = wire.split_at_mut(33);
            for piece in std::iter::once(head).chain(rest.chunks_mut(67)) {
                let mut input = black_box(piece);
                while let Some(frame) = decoder.next(&mut input).unwrap() {
                    black_box(frame);
                }
            }
        });
    }
}

mod ws {
    use super::{Bencher, ItemsCount, black_box};
    use runner_proto::ws::{Decoder, Opcode, Role, mask, write_message};

    /// 100 messages of 83 bytes (a frame of 64 and its tag) in one input.
    #[divan::bench]
    fn next(bencher: Bencher<'_, '_>) {
        let mut wire = Vec::new();
        for _ in 0..100 {
            write_message(&mut wire, Opcode::Binary, &[7; 83], None);
        }
        let mut decoder = Decoder::new(Role::Client);
        bencher.counter(ItemsCount::new(100_usize)).bench_local(|| {
            let mut input = black_box(wire.as_mut_slice());
            while let Some(message) = decoder.next(&mut input).unwrap() {
                black_box(message);
            }
        });
    }

    #[divan::bench(args = [83, 1024])]
    fn mask_payload(bencher: Bencher<'_, '_>, len: usize) {
        let mut payload = vec![7; len];
        bencher.bench_local(|| mask(black_box(&mut payload), black_box([1, 2, 3, 4])));
    }
}

mod noise {
    use super::{Bencher, BytesCount, black_box, responder};
    use aes_gcm::KeyInit;
    use responder::{Chain, NOW, Responder, encode, pair};
    use runner_proto::noise::{Initiator, Pattern, TAG_LEN, Transport};

    /// What keeping no key schedule costs in each frame.
    #[divan::bench]
    fn key_schedule(bencher: Bencher<'_, '_>) {
        type Gcm = aes_gcm::AesGcm<aes_gcm::aes::Aes256Enc, aes_gcm::aes::cipher::consts::U12>;
        let key = [7; 32];
        bencher.bench_local(|| drop(black_box(Gcm::new(black_box(&key.into())))));
    }

    #[divan::bench(args = [64, 1024])]
    fn seal(bencher: Bencher<'_, '_>, len: usize) {
        let mut transport = Transport::new([1; 32], [2; 32]);
        let mut buf = Vec::with_capacity(len + TAG_LEN);
        bencher.counter(BytesCount::new(len)).bench_local(|| {
            buf.clear();
            buf.resize(len, 7);
            transport.seal(black_box(&mut buf), 0).unwrap();
        });
    }

    #[divan::bench(args = [64, 1024])]
    fn open(bencher: Bencher<'_, '_>, len: usize) {
        let mut frame = vec![7; len];
        Transport::new([1; 32], [2; 32]).seal(&mut frame, 0).unwrap();
        let mut buf = frame.clone();
        bencher.counter(BytesCount::new(len)).bench_local(|| {
            buf.copy_from_slice(&frame);
            let mut transport = Transport::new([2; 32], [1; 32]);
            black_box(transport.open(black_box(&mut buf)).unwrap());
        });
    }

    /// The client's side, certificates included: three agreements, two key pairs, two signatures checked.
    #[divan::bench]
    fn handshake_xx(bencher: Bencher<'_, '_>) {
        let server = Responder::new();
        let (client, root) = (pair(0x61), *Chain::new(&server.key).root.public());
        let (_, hello) = Initiator::xx(pair(0x62));
        let answer = encode(server.answer_xx(Pattern::Xx, &hello).0);
        bencher.bench_local(|| {
            let (initiator, _) = Initiator::xx(pair(0x62));
            initiator.read_server_hello(black_box(&answer), &client, &[7; 100], &root, NOW).unwrap()
        });
    }

    #[divan::bench]
    fn handshake_ik(bencher: Bencher<'_, '_>) {
        let server = Responder::new();
        let client = pair(0x61);
        let begin = || Initiator::ik(pair(0x62), &client, server.key.public(), &[7; 100]).unwrap();
        let answer = encode(server.answer_ik(&begin().1).0);
        bencher.bench_local(|| {
            begin().0.read_server_hello(black_box(&answer), &client, &[], &[0; 32], NOW).unwrap()
        });
    }
}

mod cert {
    use super::{Bencher, black_box, responder};
    use responder::{Chain, NOW, pair};

    #[divan::bench]
    fn verify(bencher: Bencher<'_, '_>) {
        let chain = Chain::new(&pair(0x51));
        let (raw, root) = (chain.encode(), *chain.root.public());
        let key = *pair(0x51).public();
        bencher.bench_local(|| runner_proto::cert::verify(black_box(&raw), &root, &key, NOW).unwrap());
    }
}
