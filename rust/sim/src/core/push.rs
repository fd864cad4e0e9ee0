//! Stanzas pushed many times, as fast as the sockets take them or at a rate.

use std::time::Duration;

use runner_proto::node::{Node, encode};
use runner_proto::time::Instant;
use serde_json::{Value, json};

use super::command::Push;
use super::hub::{Hub, Reply};
use super::peer::Verdict;
use super::stanza;
use super::world::{ConnectionId, Cx, DeviceId};

/// A socket with this much unsent is left alone for a while.
const HIGH_WATER: usize = 1024 * 1024;
/// WebSocket messages to one connection in one turn.
const BURST: u64 = 64;
/// Most stanzas of one push to one target.
const MAX_PUSH: u64 = 5_000_000;
/// A push that waits for a socket or for its rate looks again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A push that is under way.
#[derive(Debug)]
pub(super) struct PushJob {
    id: u64,
    node: Node,
    has_unique_id: bool,
    /// Connections, and how many stanzas each still gets.
    targets: Vec<(ConnectionId, u64)>,
    coalesce: u64,
    rate: f64,
    began: Instant,
    began_unix_ms: u64,
    give_up_at: Instant,
    sent: u64,
    queued: u64,
    count: usize,
    wake_at: Instant,
}

impl PushJob {
    pub(super) fn wake_at(&self) -> Instant {
        self.wake_at
    }

    /// How many more stanzas the rate allows at `now`.
    fn allowance(&self, now: Instant) -> u64 {
        if self.rate <= 0.0 {
            return u64::MAX;
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of stanzas, saturating"
        )]
        let due = (now.saturating_duration_since(self.began).as_secs_f64() * self.rate) as u64;
        due.saturating_sub(self.sent)
    }
}

impl Hub {
    pub(super) fn begin_push(&mut self, push: Push, cx: &mut Cx<'_>) -> Reply {
        let node = match &push.node {
            Some(json) => stanza::from_json(json),
            None => {
                let name = push.template.as_deref().unwrap_or("receipt");
                stanza::template(name).ok_or_else(|| format!("no template {name:?}"))
            }
        };
        let node = match node {
            Ok(node) => node,
            Err(error) => return Reply::Now(Err(error)),
        };
        let each = push.n.min(MAX_PUSH);
        let mut targets: Vec<_> = self
            .peers
            .values()
            .filter(|peer| peer.logged_in && push.target.matches(peer.id, peer.username()))
            .map(|peer| (peer.id, each))
            .collect();
        targets.sort_unstable();
        let has_unique_id = stanza::attr_text(&node, "id").as_deref() == Some("$ID");
        let mut job = PushJob {
            id: self.next_job,
            has_unique_id,
            count: targets.len(),
            targets,
            coalesce: (push.coalesce.max(1)) as u64,
            rate: push.rate,
            began: cx.now,
            began_unix_ms: cx.unix_ms,
            give_up_at: cx.now
                + Duration::try_from_secs_f64(push.max_seconds.clamp(0.0, 86_400.0)).unwrap_or_default(),
            sent: 0,
            queued: 0,
            wake_at: cx.now,
            node,
        };
        if push.offline {
            self.queue_for_absent(&push, each, &mut job);
        }
        self.next_job += 1;
        let id = job.id;
        self.jobs.push(job);
        Reply::Later(id)
    }

    /// Puts stanzas into the queues of targets that are not connected.
    fn queue_for_absent(&mut self, push: &Push, each: u64, job: &mut PushJob) {
        let mut absent: Vec<DeviceId> = self
            .world
            .accounts
            .iter()
            .filter(|((username, _), account)| account.live.is_none() && push.target.names(*username))
            .map(|(device, _)| *device)
            .collect();
        absent.sort_unstable();
        for device in absent {
            for _ in 0..each {
                if job.has_unique_id {
                    let id = self.world.next_stanza_id();
                    stanza::set_attr(&mut job.node, "id", &id);
                }
                let mut plain = Vec::new();
                encode(&job.node, &mut plain);
                job.queued += u64::from(self.world.queue_offline(device, plain.into()));
            }
        }
    }

    /// Gives every push a turn.
    pub(super) fn run_jobs(&mut self, cx: &mut Cx<'_>) {
        for mut job in std::mem::take(&mut self.jobs) {
            if job.wake_at > cx.now {
                self.jobs.push(job);
                continue;
            }
            let before = job.sent;
            let mut targets = std::mem::take(&mut job.targets);
            targets.retain_mut(|(id, left)| self.push_to(*id, left, &mut job, cx));
            job.targets = targets;
            self.world.counters.nodes_pushed += job.sent - before;
            if job.targets.is_empty() || cx.now >= job.give_up_at {
                self.report_push(&job, cx);
                continue;
            }
            // After progress the next turn comes at once, with the sockets served in between.
            job.wake_at = if job.sent > before { cx.now } else { cx.now + LOOK_AGAIN };
            self.jobs.push(job);
        }
    }

    /// Pushes a burst to one connection; false when it has had everything or is gone.
    fn push_to(&mut self, id: ConnectionId, left: &mut u64, job: &mut PushJob, cx: &mut Cx<'_>) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        for _ in 0..BURST {
            if *left == 0 || peer.verdict != Verdict::Open || peer.server_closed {
                break;
            }
            if peer.unsent + peer.out.len() >= HIGH_WATER {
                break;
            }
            let some = job.coalesce.min(*left).min(job.allowance(cx.now));
            if some == 0 {
                break;
            }
            peer.with_coalescing(&mut self.world, |peer, world| {
                for _ in 0..some {
                    if job.has_unique_id {
                        let unique = world.next_stanza_id();
                        stanza::set_attr(&mut job.node, "id", &unique);
                    }
                    peer.push(&job.node, world, cx);
                }
            });
            *left -= some;
            job.sent += some;
        }
        let more = *left > 0 && peer.verdict == Verdict::Open && !peer.server_closed;
        self.touch(id, cx);
        more
    }

    fn report_push(&mut self, job: &PushJob, cx: &Cx<'_>) {
        let seconds = cx.now.saturating_duration_since(job.began).as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let per_second = if seconds > 0.0 { job.sent as f64 / seconds } else { 0.0 };
        let answer: Value = json!({
            "targets": job.count,
            "sent": job.sent,
            "queued": job.queued,
            "startedAt": job.began_unix_ms,
            "seconds": seconds,
            "perSecond": per_second,
        });
        self.finish_job(job.id, answer);
    }
}
