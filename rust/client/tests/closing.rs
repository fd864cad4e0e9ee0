//! Every close reason that a session can see arrives as its slug, with its number and its phase.

mod support;

use std::{collections::BTreeSet, time::Duration};

use runner_client::{Command, CommitFailed, Event, StoreState, TransportEnd, Write};
use runner_proto::{
    close_reason::{CloseReason, Source},
    node::Node,
    noise::Pattern,
    phase::Phase,
    ws::{self, Opcode},
};
use support::{
    World, config, device, message,
    peer::{Resume, attr, ib},
    resuming_device,
};

fn assert_closed(world: &World, slug: &str, code: Option<u32>, phase: Phase) {
    let closed = world.closed();
    assert_eq!((closed.reason.slug(), closed.code, closed.phase), (slug, code, phase), "{}", closed.detail);
}

fn stream_error(code: Option<&str>, child: Option<Node>) -> Node {
    let error = Node::new("stream:error");
    let error = match code {
        Some(code) => error.attr("code", code),
        None => error,
    };
    match child {
        Some(child) => error.child(child),
        None => error,
    }
}

fn conflict(kind: &str) -> Option<Node> {
    Some(Node::new("conflict").attr("type", kind))
}

#[test]
fn each_failure_number_ends_the_login_with_its_reason() {
    let numbers = [400, 401, 402, 403, 405, 406, 409, 413, 414, 415, 418, 429, 500, 501, 503];
    for number in numbers {
        let mut world = World::new(device());
        world.peer.script.login = Some(Node::new("failure").attr("reason", number.to_string()));
        world.open();
        let reason = CloseReason::from_failure(Some(number));
        assert_ne!(reason, CloseReason::FailureUnknown);
        assert_closed(&world, reason.slug(), Some(number), Phase::Authenticating);
        assert!(
            world.closed().detail.contains(&format!("<failure reason=\"{number}\"")),
            "{}",
            world.closed().detail
        );
        assert!(!world.events().any(|event| matches!(event, Event::Online { .. })));
    }
}

#[test]
fn an_unknown_failure_keeps_its_number_and_the_raw_stanza() {
    let mut world = World::new(device());
    world.peer.script.login = Some(
        Node::new("failure").attr("reason", "777").attr("location", "frc\n").attr("token", "x".repeat(2000)),
    );
    world.open();
    assert_closed(&world, "failure_unknown", Some(777), Phase::Authenticating);
    let detail = &world.closed().detail;
    assert!(detail.starts_with("<failure reason=\"777\"") && detail.ends_with("..."), "{detail}");
    assert!(detail.len() <= runner_proto::close_reason::MAX_DETAIL_BYTES && !detail.contains('\n'));
}

#[test]
fn a_temporary_ban_says_how_long() {
    let mut world = World::new(device());
    world.peer.script.login =
        Some(Node::new("failure").attr("reason", "402").attr("code", "101").attr("expire", "86400"));
    world.open();
    assert_closed(&world, "failure_temporary_ban", Some(402), Phase::Authenticating);
    assert_eq!(world.closed().expire_s, Some(86_400));
}

#[test]
fn each_stream_error_ends_an_online_session_with_its_reason() {
    let ack = Node::new("ack").attr("class", "receipt").attr("id", "ABC");
    let cases = [
        (Some("401"), None, "stream_unauthorized", Some(401)),
        (Some("401"), conflict("device_removed"), "stream_device_removed", Some(401)),
        (Some("403"), None, "stream_forbidden", Some(403)),
        (Some("409"), None, "stream_conflict", Some(409)),
        (None, conflict("bewildered"), "stream_conflict_other", None),
        (Some("413"), None, "stream_cat_expired", Some(413)),
        (Some("414"), None, "stream_cat_invalid", Some(414)),
        (Some("429"), None, "stream_rate_limited", Some(429)),
        (None, conflict("replaced"), "stream_replaced", None),
        (Some("440"), None, "stream_replaced_code", Some(440)),
        (Some("500"), None, "stream_internal_error", Some(500)),
        (Some("503"), None, "stream_service_unavailable", Some(503)),
        (Some("515"), None, "stream_restart_required", Some(515)),
        (Some("516"), None, "stream_logged_out", Some(516)),
        (None, Some(ack), "stream_unanswered_stanza", None),
        (None, Some(Node::new("xml-not-well-formed")), "stream_bad_xml", None),
        (Some("999"), None, "stream_unknown", Some(999)),
        (None, None, "stream_unknown", None),
    ];
    let mut seen = BTreeSet::new();
    for (code, child, slug, number) in cases {
        let mut world = World::online();
        let error = stream_error(code, child);
        world.push(&error);
        assert_closed(&world, slug, number, Phase::Online);
        assert!(world.closed().detail.starts_with("<stream:error"), "{}", world.closed().detail);
        assert_eq!(world.peer.closes, [Some(ws::close_code::NORMAL)], "says goodbye");
        seen.insert(slug);
    }
    let of_source = CloseReason::ALL.iter().filter(|reason| reason.source() == Source::StreamError);
    assert_eq!(seen.len(), of_source.count(), "no reason of the source was left out");
}

#[test]
fn a_stream_error_before_the_login_is_named_in_its_phase() {
    let mut world = World::new(device());
    world.peer.script.login = Some(stream_error(Some("515"), None));
    world.open();
    assert_closed(&world, "stream_restart_required", Some(515), Phase::Authenticating);
}

#[test]
fn the_other_stanzas_that_end_a_stream_do() {
    let mut world = World::online();
    world.push(&Node::new("xmlstreamend"));
    assert_closed(&world, "stream_ended", None, Phase::Online);

    let mut world = World::online();
    world.push(&ib(Node::new("downgrade_webclient")));
    assert_closed(&world, "multidevice_mismatch", Some(411), Phase::Online);
}

#[test]
fn a_refused_upgrade_keeps_the_http_status() {
    let mut world = World::new(device());
    world.peer.script.upgrade =
        Some(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_vec());
    world.open();
    assert_closed(&world, "upgrade_refused", Some(503), Phase::Upgrading);
    assert!(world.peer.closes.is_empty(), "there is no websocket to close");
}

#[test]
fn an_answer_that_is_no_upgrade_is_invalid() {
    for answer in [&b"SSH-2.0-OpenSSH_9.6\r\n\r\n"[..], b"HTTP/1.1 101 Switching Protocols\r\n\r\n"] {
        let mut world = World::new(device());
        world.peer.script.upgrade = Some(answer.to_vec());
        world.open();
        assert_closed(&world, "upgrade_invalid", None, Phase::Upgrading);
    }
}

#[test]
fn a_websocket_close_frame_keeps_its_code_and_is_echoed() {
    for (code, status) in [(Some(1001), Some((1001, "going away"))), (None, None)] {
        let mut world = World::online();
        ws::write_close(&mut world.peer.out, status, None);
        world.exchange();
        assert_closed(&world, "websocket_closed", code.map(u32::from), Phase::Online);
        assert_eq!(world.peer.closes, [Some(code.unwrap_or(ws::close_code::NORMAL))]);
    }
}

#[test]
fn a_broken_websocket_frame_is_invalid() {
    let mut world = World::online();
    world.peer.out.extend_from_slice(&[0xf2, 0]);
    world.exchange();
    assert_closed(&world, "websocket_invalid", None, Phase::Online);
    assert_eq!(world.peer.closes, [Some(ws::close_code::PROTOCOL_ERROR)]);
}

#[test]
fn each_end_of_the_transport_keeps_its_reason_in_every_phase() {
    for reason in
        [CloseReason::ConnectionClosed, CloseReason::ConnectionReset, CloseReason::ConnectionTimedOut]
    {
        for phase in [Phase::Upgrading, Phase::Handshaking, Phase::Authenticating, Phase::Online] {
            let mut world = World::new(device());
            world.peer.script.answers_upgrade = phase != Phase::Upgrading;
            world.peer.script.answers_hello = phase != Phase::Handshaking;
            world.peer.script.login =
                world.peer.script.login.take().filter(|_| phase != Phase::Authenticating);
            world.open();
            assert_eq!(world.client.phase(), phase);
            let end = TransportEnd { reason, detail: "os error 104".to_owned() };
            world.call(|client, cx| client.handle_transport_end(end, cx));
            assert_closed(&world, reason.slug(), None, phase);
            assert_eq!(world.closed().detail, "os error 104");
            assert!(world.out.is_empty(), "nothing is written to a transport that is gone");
        }
    }
}

#[test]
fn each_phase_of_the_opening_has_its_deadline() {
    let cases = [
        (Phase::Upgrading, "upgrade_timeout", 20),
        (Phase::Handshaking, "handshake_timeout", 20),
        (Phase::Authenticating, "login_timeout", 60),
    ];
    for (phase, slug, seconds) in cases {
        let mut world = World::new(device());
        world.peer.script.answers_upgrade = phase != Phase::Upgrading;
        world.peer.script.answers_hello = phase != Phase::Handshaking;
        world.peer.script.login = None;
        world.open();
        world.advance(Duration::from_micros(seconds * 1_000_000 - 1));
        assert!(!world.is_closed(), "just before: {phase}");
        world.advance(Duration::from_micros(1));
        assert_closed(&world, slug, None, phase);
    }
}

#[test]
fn a_server_that_nobody_vouches_for_is_refused() {
    let mut world = World::new(device());
    world.peer.script.is_trusted = false;
    world.open();
    assert_closed(&world, "certificate_invalid", None, Phase::Handshaking);
}

#[test]
fn a_certificate_outside_its_validity_is_expired() {
    for validity in [(-1000, -1), (1000, 2000)] {
        let mut world = World::new(device());
        world.peer.script.validity = validity;
        world.open();
        assert_closed(&world, "certificate_expired", None, Phase::Handshaking);
    }
}

#[test]
fn a_server_hello_that_does_not_parse_fails_the_handshake() {
    let mut world = World::new(device());
    world.peer.script.answers_hello = false;
    world.open();
    world.peer.send_frame(&[0xff; 20]);
    world.exchange();
    assert_closed(&world, "handshake_failed", None, Phase::Handshaking);
}

#[test]
fn a_frame_that_does_not_decrypt_ends_the_connection() {
    let mut world = World::online();
    world.peer.send_frame(&[0; 40]);
    world.exchange();
    assert_closed(&world, "decrypt_failed", None, Phase::Online);
}

#[test]
fn a_frame_that_is_too_long_ends_the_connection() {
    let mut world = World::online();
    ws::write_message(&mut world.peer.out, Opcode::Binary, &[0xff, 0xff, 0xff, 1], None);
    world.exchange();
    assert_closed(&world, "frame_invalid", None, Phase::Online);
}

#[test]
fn a_peer_that_falls_silent_is_dead_at_the_pong_deadline() {
    let mut world = World::online();
    world.peer.is_dead = true;
    world.advance(Duration::from_secs(60));
    assert_closed(&world, "pong_deadline", None, Phase::Online);
}

#[test]
fn a_store_that_hangs_closes_after_twenty_seconds_and_blames_itself() {
    let mut world = World::online();
    world.call(|client, cx| client.handle_store(StoreState::Hangs, cx));
    world.advance(Duration::from_micros(19_999_999));
    assert!(!world.is_closed());
    world.advance(Duration::from_micros(1));
    assert_closed(&world, "store_stalled", None, Phase::Online);
}

#[test]
fn what_a_failing_store_lost_is_fetched_again_when_it_is_well_and_not_before() {
    let mut world = World::online();
    world.commits = Some(Err(CommitFailed::Store));
    world.push(&message("A"));
    world.push(&message("B"));
    world.advance(Duration::from_secs(600));
    assert!(!world.is_closed(), "a new connection would lose them again");
    world.commits = Some(Ok(()));
    world.push(&message("C"));
    assert!(!world.is_closed(), "whether the store is well is not for one commit to say");
    world.call(|client, cx| client.handle_store_recovered(cx));
    world.exchange();
    assert_closed(&world, "store_stalled", None, Phase::Online);
    assert_eq!(world.closed().detail, "2 messages could not be kept and are fetched again");
    assert_eq!(world.peer.closes, [Some(ws::close_code::NORMAL)], "a farewell, so that the server knows");
}

#[test]
fn a_connection_that_lost_nothing_stays_when_the_store_recovers() {
    let mut world = World::online();
    world.push(&message("A"));
    world.commits = None;
    world.push(&message("B"));
    world.call(|client, cx| client.handle_store_recovered(cx));
    world.exchange();
    assert!(!world.is_closed(), "one waits, none is lost");
}

#[test]
fn a_logout_under_way_is_not_cut_short_by_a_store_that_recovers() {
    let mut world = World::online();
    world.commits = Some(Err(CommitFailed::Store));
    world.push(&message("A"));
    world.peer.script.answers_requests = false;
    world.command(Command::Logout);
    world.call(|client, cx| client.handle_store_recovered(cx));
    assert!(!world.is_closed());
    world.advance(Duration::from_secs(6));
    assert_closed(&world, "logout_unconfirmed", None, Phase::Closing);
}

#[test]
fn a_session_that_the_store_no_longer_knows_ends_alone_and_is_no_failure_of_the_store() {
    let mut world = World::online();
    world.commits = Some(Err(CommitFailed::UnknownSession));
    world.push(&message("A"));
    assert_closed(&world, "device_missing", None, Phase::Online);
}

#[test]
fn whoever_asks_for_the_end_gets_it_with_that_reason() {
    let asked = CloseReason::ALL.iter().filter(|reason| reason.source() == Source::Request);
    for reason in
        asked.chain(&[CloseReason::OutputStalled, CloseReason::SessionPanicked, CloseReason::InputUnfinished])
    {
        let mut world = World::online();
        world.command(Command::Close(*reason));
        assert_closed(&world, reason.slug(), None, Phase::Online);
    }
}

#[test]
fn nothing_comes_out_after_the_end() {
    let mut world = World::online();
    world.command(Command::Close(CloseReason::Stopped));
    let told = world.effects.len();
    world.peer.send(&message("A"));
    world.exchange();
    world.command(Command::Close(CloseReason::Forced));
    world.command(Command::Logout);
    let end = TransportEnd { reason: CloseReason::ConnectionClosed, detail: String::new() };
    world.call(|client, cx| client.handle_transport_end(end, cx));
    world.call(|client, cx| client.handle_timeout(cx));
    assert_eq!(world.effects.len(), told, "{:?}", &world.effects[told..]);
    assert!(world.out.is_empty());
    assert_closed(&world, "stopped", None, Phase::Online);
}

#[test]
fn a_logout_unlinks_the_device_and_then_closes() {
    let mut world = World::online();
    world.command(Command::Logout);
    let iq = world.peer.received_with("iq")[0];
    assert_eq!((attr(iq, "xmlns"), attr(iq, "type")), ("md".to_owned(), "set".to_owned()));
    let remove = iq.find_child("remove-companion-device").expect("the child");
    assert_eq!(attr(remove, "jid"), "15550001111:3@s.whatsapp.net");
    assert_eq!(attr(remove, "reason"), "user_initiated");
    assert!(world.events().any(|event| *event == Event::Phase(Phase::Closing)));
    assert_closed(&world, "logged_out_by_request", None, Phase::Closing);
    assert_eq!(world.closed().detail, "");
}

#[test]
fn a_logout_that_the_server_does_not_confirm_says_so() {
    let silent = || {
        let mut world = World::online();
        world.peer.script.answers_requests = false;
        world.command(Command::Logout);
        world
    };
    let mut world = silent();
    world.push(&stream_error(Some("401"), conflict("device_removed")));
    assert_closed(&world, "logout_unconfirmed", Some(401), Phase::Closing);
    assert!(world.closed().detail.starts_with("stream_device_removed"), "{}", world.closed().detail);

    let mut world = silent();
    world.advance(runner_client::LOGOUT_TIMEOUT);
    assert_closed(&world, "logout_unconfirmed", None, Phase::Closing);
    assert_eq!(world.closed().detail, "the server did not confirm");

    let mut world = World::new(device());
    world.peer.script.login = None;
    world.open();
    world.command(Command::Logout);
    assert_closed(&world, "logout_unconfirmed", None, Phase::Authenticating);
    assert_eq!(world.closed().detail, "not online: the server was not told");
}

#[test]
fn a_resume_saves_the_finish_and_keeps_no_certificates() {
    let mut world = World::new(resuming_device());
    world.open();
    assert_eq!(world.peer.pattern, Some(Pattern::Ik));
    assert!(world.events().any(|event| matches!(event, Event::Online { handshake: Pattern::Ik, .. })));
    assert!(!world.writes().any(|write| matches!(write, Write::ServerChain(_))));
}

#[test]
fn a_refused_resume_falls_back_and_is_no_failure() {
    let mut world = World::new(resuming_device());
    world.peer.script.resume = Resume::Fallback;
    world.open();
    assert!(
        world.events().any(|event| matches!(event, Event::Online { handshake: Pattern::XxFallback, .. }))
    );
    assert!(world.writes().any(|write| matches!(write, Write::ServerChain(_))));
    assert!(!world.events().any(|event| *event == Event::ResumeFailed));
}

fn assert_resume_failed(world: &World, phase: Phase) {
    assert_closed(world, "resume_failed", None, phase);
    assert!(world.events().any(|event| *event == Event::ResumeFailed));
    assert!(world.writes().any(|write| *write == Write::ForgetServerChain));
}

#[test]
fn a_resume_answered_as_a_plain_handshake_fails_and_is_forgotten() {
    let mut world = World::new(resuming_device());
    world.peer.script.resume = Resume::AsXx;
    world.open();
    assert_resume_failed(&world, Phase::Handshaking);
}

#[test]
fn a_transport_that_breaks_off_before_a_resume_is_answered_fails_the_resume() {
    let mut world = World::new(resuming_device());
    world.peer.script.resume = Resume::Silent;
    world.open();
    let end = TransportEnd { reason: CloseReason::ConnectionClosed, detail: "eof".to_owned() };
    world.call(|client, cx| client.handle_transport_end(end, cx));
    assert_resume_failed(&world, Phase::Handshaking);
    assert_eq!(world.closed().detail, "connection_closed: eof");
}

#[test]
fn a_first_frame_that_does_not_decrypt_fails_the_resume() {
    let mut world = World::new(resuming_device());
    world.peer.script.login = None;
    world.open();
    world.peer.send_frame(&[0; 40]);
    world.exchange();
    assert_resume_failed(&world, Phase::Authenticating);
}

#[test]
fn an_outdated_server_key_is_not_used() {
    let mut device = resuming_device();
    if let Some(cached) = &mut device.server_key {
        cached.not_after = cached.not_before;
    }
    let mut world = World::with(device, config());
    world.open();
    assert_eq!(world.peer.pattern, Some(Pattern::Xx));
}

#[test]
fn every_reason_that_a_session_can_see_has_a_test_here() {
    // What is left are the reasons that only the driver can see: it makes these without a session.
    let elsewhere: Vec<_> = CloseReason::ALL
        .iter()
        .filter(|reason| reason.source() == Source::Dial)
        .map(|reason| reason.slug())
        .collect();
    let here = include_str!("closing.rs");
    for reason in CloseReason::ALL {
        let by_number = reason.source() == Source::Failure && reason.code().is_some();
        let by_source = reason.source() == Source::Request;
        let by_name =
            here.contains(&format!("\"{}\"", reason.slug())) || here.contains(&format!("::{reason:?}"));
        // 2^32 frames on one connection: tested where the counter can be set, in proto/noise.
        let beyond = *reason == CloseReason::NonceExhausted;
        // Only while a phone is to link a new device: rust/sim/tests/linking.rs.
        let linking = [CloseReason::PairingExpired, CloseReason::PairingInvalid].contains(reason);
        assert!(
            by_number || by_source || by_name || beyond || linking || elsewhere.contains(&reason.slug()),
            "{reason} has no test"
        );
    }
}
