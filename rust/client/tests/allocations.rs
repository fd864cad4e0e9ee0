//! An idle session costs no allocation: not for a ping and its pong, an ignored stanza, or an ack.

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
    time::Duration,
};

use runner_client::{Client, Effect};
use runner_proto::{node::Node, phase::Phase, session::Session};
use support::{World, jid};

/// Counts allocations on this thread while asked to.
struct Counting;

thread_local! {
    static COUNT: Cell<Option<usize>> = const { Cell::new(None) };
    /// Bytes allocated less bytes freed, in the same time.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

fn note(calls: usize, bytes: isize) {
    if let Some(count) = COUNT.get() {
        COUNT.set(Some(count + calls));
        LIVE.set(LIVE.get() + bytes);
    }
}

// SAFETY: hands every call on to the system's allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, -(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as isize - layout.size() as isize);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    COUNT.set(Some(0));
    work();
    COUNT.take().unwrap_or(0)
}

/// The heap bytes that `work` leaves behind, and its result.
fn kept<T>(work: impl FnOnce() -> T) -> (isize, T) {
    LIVE.set(0);
    COUNT.set(Some(0));
    let result = work();
    COUNT.set(None);
    (LIVE.get(), result)
}

/// What handling the peer's next bytes allocates.
fn allocations_for(world: &mut World, stanza: &Node) -> usize {
    world.peer.send(stanza);
    let mut bytes = std::mem::take(&mut world.peer.out);
    world.out.clear();
    allocations(|| world.call(|client, cx| client.handle_input(&mut bytes, cx)))
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(10)))), 1);
}

#[test]
fn a_ping_and_its_pong_allocate_nothing() {
    let mut world = World::online();
    world.advance(Duration::from_secs(60));
    let pings = world.peer.pings;
    let mut counted = 0;
    while world.peer.pings < pings + 3 {
        world.now = world.client.poll_timeout().expect("a timer");
        world.out.clear();
        world.out.reserve(4096);
        counted += allocations(|| world.call(|client, cx| client.handle_timeout(cx)));
        let bytes = std::mem::take(&mut world.out);
        world.peer.receive(&bytes, 0);
        let mut answer = std::mem::take(&mut world.peer.out);
        world.out = Vec::with_capacity(4096);
        counted += allocations(|| world.call(|client, cx| client.handle_input(&mut answer, cx)));
    }
    assert_eq!(counted, 0);
    assert_eq!(world.client.counters().pongs_received, world.client.counters().pings_sent);
}

#[test]
fn an_ignored_stanza_and_an_ack_allocate_nothing() {
    let mut world = World::online();
    world.out.reserve(4096);
    let presence = Node::new("presence").attr_jid("from", jid("15550002222@s.whatsapp.net"));
    let receipt = Node::new("receipt").attr("id", "3EB06066644C4811A80277");
    let receipt = receipt.attr_jid("from", jid("120363000000000001@g.us")).attr("type", "read");
    let receipt = receipt.attr_jid("participant", jid("900000000009:7@lid")).attr("t", "1767225600");
    let unknown =
        Node::new("sticker-storm").attr("id", "1").attr_jid("from", jid("15550002222@s.whatsapp.net"));
    for stanza in [presence, receipt, unknown] {
        allocations_for(&mut world, &stanza);
        assert_eq!(allocations_for(&mut world, &stanza), 0, "{}", stanza.tag);
    }
}

#[test]
fn an_idle_client_is_small_and_owns_no_heap_but_its_device_identity() {
    let mut world = World::online();
    world.out.reserve(1 << 16);
    world.effects = Vec::new();
    world.peer = support::peer::Peer::default();
    let config = Arc::new(support::config());
    let now = world.now;
    let (mut heap, client) = kept(|| Client::new(Arc::clone(&config), support::device(), now));
    assert!(heap > 300, "the handshake's state is there: {heap}");
    world.client = client;
    heap += kept(|| world.call(|client, cx| client.handle_open(cx))).0;
    while !world.out.is_empty() {
        world.peer.receive(&world.out, support::START_UNIX_MS / 1000);
        world.out.clear();
        let mut flight = std::mem::take(&mut world.peer.out);
        heap += kept(|| {
            world.call(|client, cx| client.handle_input(&mut flight, cx));
            for effect in world.effects.split_off(0) {
                if let Effect::Load { token, keys } = effect {
                    let records = world.store.load(&keys);
                    world.call(|client, cx| client.on_loaded(token, Ok(records), cx));
                }
            }
            world.effects = Vec::new();
        })
        .0;
    }
    assert_eq!(world.client.phase(), Phase::Online);
    let identity = support::device().keys.account.map_or(0, |account| account.len());
    assert_eq!(heap, identity.cast_signed(), "bytes on the heap of an idle client");
    let (session, client) = (size_of::<Session>(), size_of::<Client>());
    println!("Session {session} bytes, Client {client} bytes, heap {heap} bytes");
    assert!(session <= 640, "{session}");
    // A quarter of it are the keys with which messages are opened.
    assert!(client <= 1416, "{client}");
}
