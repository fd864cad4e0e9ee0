//! What two devices can rely on.

use crate::support::Device;
use runner_signal::session::{self, DecryptError, MessageKind};

fn pair(with_pre_key: bool) -> (Device, Device) {
    let (mut a, mut b) = (Device::new("a", 1), Device::new("b", 2));
    a.start("b", &b.bundle(with_pre_key));
    (a, b)
}

#[test]
fn a_first_message_makes_the_session_on_the_other_side() {
    for with_pre_key in [true, false] {
        let (mut a, mut b) = pair(with_pre_key);
        let first = a.encrypt("b", b"one");
        assert_eq!(first.kind, MessageKind::PreKey);
        assert_eq!(b.decrypt("a", &first).unwrap(), b"one");
        assert!(b.disk.pre_keys.is_empty());
        let answer = b.encrypt("a", b"two");
        assert_eq!(answer.kind, MessageKind::Signal);
        assert_eq!(a.decrypt("b", &answer).unwrap(), b"two");
        let third = a.encrypt("b", b"three");
        assert_eq!(third.kind, MessageKind::Signal);
        assert_eq!(b.decrypt("a", &third).unwrap(), b"three");
    }
}

#[test]
fn a_message_is_read_once() {
    let (mut a, mut b) = pair(true);
    let first = a.encrypt("b", b"one");
    b.decrypt("a", &first).unwrap();
    assert_eq!(b.decrypt("a", &first), Err(DecryptError::Duplicate { counter: 0 }));
    let _ = session::MAX_LEASE;
}
