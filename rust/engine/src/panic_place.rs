//! Where one connection's code panicked: for its end to tell, in place of the lines that Rust prints.
//!
//! What is guarded is told by the `closed` event, with session and reason; printed as well it would be a line in a log that
//! says neither. Any other panic ends the process (docs/decisions/0005), and is printed as ever.

use std::cell::{Cell, RefCell};
use std::panic;
use std::sync::Once;

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes guarded panics silent. Of a process, not of an engine: that is what a panic hook is.
pub(crate) fn silence_guarded() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IS_GUARDED.get() {
                PLACE.set(info.location().map(|at| format!("{}:{}", at.file(), at.line())));
            } else {
                print(info);
            }
        }));
    });
}

/// Runs what is caught when it panics.
pub(crate) fn guarded<T>(step: impl FnOnce() -> T) -> T {
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            IS_GUARDED.set(false);
        }
    }
    IS_GUARDED.set(true);
    let _end = End;
    step()
}

/// File and line of the last guarded panic of this thread.
pub(crate) fn take() -> Option<String> {
    PLACE.take()
}
