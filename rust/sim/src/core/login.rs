//! From the client's hello to `<success>` or `<failure>`, and the offline backlog that follows.

use std::time::Duration;

use prost::Message as _;
use runner_proto::node::Node;
use runner_proto::payload::{ClientPayload, DevicePairingData};
use serde_json::{Map, json};

use super::command::{Ending, HandshakeFault, LoginFault};
use super::peer::{Act, Peer, Stage};
use super::phone::NewDevice;
use super::responder::{Next, Proven, answer_hello};
use super::stanza;
use super::world::{Account, Cx, DeviceId, Order, World};

/// What a client that asks for no batch (whatsmeow never does) gets at once, whenever it has answered what it has.
const UNASKED_BATCH: usize = 100;
/// One that neither asks nor answers gets the rest of its backlog after this time.
const BACKLOG_WAIT: Duration = Duration::from_secs(3);
/// The major and minor version that every client has.
const VERSION: [u32; 2] = [2, 3000];

impl Peer {
    /// A whole frame: handshake message or sealed stanza. An error is the client's fault, and ends the connection.
    pub(super) fn handle_frame(
        &mut self,
        frame: &mut [u8],
        world: &mut World,
        cx: &mut Cx<'_>,
    ) -> Result<(), String> {
        match std::mem::replace(&mut self.stage, Stage::Open) {
            Stage::Hello => {
                self.stage = Stage::Hello;
                self.handle_hello(frame, world, cx)
            }
            Stage::Finish(wait) => {
                let proven = wait.read_finish(frame).map_err(|error| error.to_string())?;
                self.handle_proven(proven, world, cx);
                Ok(())
            }
            Stage::Open => self.handle_sealed(frame, world, cx),
            other => {
                self.stage = other;
                Ok(())
            }
        }
    }

    fn handle_hello(&mut self, frame: &[u8], world: &mut World, cx: &mut Cx<'_>) -> Result<(), String> {
        let fault = world.settings.handshake;
        match fault {
            HandshakeFault::Silent => return Ok(()),
            HandshakeFault::Garbage => {
                self.send_handshake(&[0xff; 40], world);
                return Ok(());
            }
            _ => {}
        }
        let chain = world.chain(cx.unix_s());
        let (reply, next) = answer_hello(frame, &world.noise, &chain, fault, cx.entropy)
            .map_err(|error| error.to_string())?;
        self.send_handshake(&reply, world);
        match next {
            Next::Finish(wait) => self.stage = Stage::Finish(Box::new(wait)),
            Next::Done(proven) => self.handle_proven(proven, world, cx),
        }
        Ok(())
    }

    fn handle_proven(&mut self, proven: Proven, world: &mut World, cx: &mut Cx<'_>) {
        self.stage = Stage::Open;
        self.transport = Some(proven.transport);
        self.pattern = Some(proven.pattern.slug());
        world.counters.handshakes += 1;
        match proven.pattern.slug() {
            "ik" => world.counters.handshakes_ik += 1,
            "xxfallback" => world.counters.handshakes_fallback += 1,
            _ => world.counters.handshakes_xx += 1,
        }
        let payload = ClientPayload::decode(proven.payload.as_slice()).unwrap_or_default();
        let version = payload.user_agent.and_then(|agent| agent.app_version).map(|version| {
            [version.primary, version.secondary, version.tertiary].map(Option::unwrap_or_default)
        });
        self.version = version;
        self.passive = payload.passive.unwrap_or(false);
        let Some(username) = payload.username else {
            return self.register(payload.device_pairing_data.as_ref(), &proven.client, world, cx);
        };
        let device = (username, payload.device.unwrap_or(0));
        self.device = Some(device);
        if is_outdated(version, world.settings.min_revision) {
            world.counters.outdated += 1;
            self.fail(405, &Map::new(), world, cx);
            return;
        }
        let fault = world.take_rule(username);
        if let Some(fault) = &fault
            && self.fault_instead_of_login(fault, world, cx)
        {
            return;
        }
        self.log_in(device, &proven.client, world, cx);
        if self.logged_in
            && let Some(fault) = fault
        {
            self.fault_after_login(fault, cx);
        }
    }

    /// A device that no phone has linked yet.
    fn register(
        &mut self,
        data: Option<&DevicePairingData>,
        noise_public: &[u8; 32],
        world: &mut World,
        cx: &Cx<'_>,
    ) {
        world.counters.registrations += 1;
        world.note(cx.unix_ms, "registration", self.id, None, &[]);
        if is_outdated(self.version, world.settings.min_revision) {
            world.counters.outdated += 1;
            return self.fail(405, &Map::new(), world, cx);
        }
        if let Some(fault) = world.take_rule_for_anybody()
            && self.fault_instead_of_login(&fault, world, cx)
        {
            return;
        }
        match data.and_then(|data| NewDevice::read(data, *noise_public, cx.now)) {
            Some(device) => self.begin_linking(device, world, cx),
            None => {
                self.protocol_error("a registration with keys that do not match", world, cx);
                self.fail(400, &Map::new(), world, cx);
            }
        }
    }

    /// True when the rule leaves nothing of the login.
    fn fault_instead_of_login(&mut self, fault: &LoginFault, world: &mut World, cx: &Cx<'_>) -> bool {
        match fault {
            LoginFault::Failure { reason, attrs } => self.fail(*reason, attrs, world, cx),
            LoginFault::Malformed { kind } => self.send_malformed(*kind, world),
            LoginFault::Close { instead: true, hard, .. } => {
                self.end(if *hard { Ending::Reset } else { Ending::Clean(1000) }, cx);
            }
            LoginFault::Silent { level, after_success: false } => self.set_silence(Some(*level), cx.unix_ms),
            LoginFault::Ignore => {}
            LoginFault::Delay { ms } => {
                self.delay = Duration::from_millis(*ms);
                return false;
            }
            _ => return false,
        }
        true
    }

    fn fault_after_login(&mut self, fault: LoginFault, cx: &Cx<'_>) {
        let after = |ms| cx.now + Duration::from_millis(ms);
        match fault {
            LoginFault::StreamError { code, child, child_attrs, after_ms } => {
                let node = stanza::stream_error(code, child.as_deref(), &child_attrs);
                self.plan(after(after_ms), Act::Goodbye(Box::new(node)));
            }
            LoginFault::Xmlstreamend { after_ms } => {
                self.plan(after(after_ms), Act::Goodbye(Box::new(Node::new("xmlstreamend"))));
            }
            LoginFault::Close { after_ms, hard, .. } => {
                let ending = if hard { Ending::Reset } else { Ending::Clean(1000) };
                self.plan(after(after_ms), Act::End(ending));
            }
            LoginFault::Silent { level, .. } => self.set_silence(Some(level), cx.unix_ms),
            _ => {}
        }
    }

    fn log_in(&mut self, device: DeviceId, noise_public: &[u8; 32], world: &mut World, cx: &Cx<'_>) {
        let first_byte_at = self.first_byte_at;
        let Some(account) = world.admit(device, noise_public) else {
            self.fail(401, &Map::new(), world, cx);
            return;
        };
        let overlapped = account.ended_at.zip(first_byte_at).is_some_and(|(ended, began)| ended > began);
        let older = account.live.replace(self.id).map(|older| (older, account.hung_up));
        account.hung_up = false;
        account.logins += 1;
        world.counters.overlaps += u64::from(overlapped);
        match older {
            // The client had ended that connection; the server just had not read so far.
            Some((older, true)) => world.orders.push_back((older, Order::Forget)),
            Some((older, false)) => {
                world.counters.duplicates += 1;
                world.counters.replaced += 1;
                world.note(cx.unix_ms, "replaced", older, Some(device.0), &[("by", json!(self.id))]);
                world.orders.push_back((older, Order::Replaced));
            }
            None => {}
        }
        self.logged_in = true;
        self.logged_in_at_ms = Some(cx.unix_ms);
        world.counters.logins += 1;
        world.note(cx.unix_ms, "login", self.id, Some(device.0), &[("handshake", json!(self.pattern))]);
        self.answer_node(&stanza::success(device, cx.unix_s()), world, cx);
        if world.settings.edge_routing {
            self.answer_node(&stanza::edge_routing(), world, cx);
        }
        if world.settings.dirty {
            self.answer_node(&stanza::dirty(cx.unix_s()), world, cx);
        }
        if !self.passive {
            self.begin_backlog(world, cx);
        }
    }

    /// `<failure>`, and the end.
    pub(super) fn fail(
        &mut self,
        reason: u32,
        attrs: &Map<String, serde_json::Value>,
        world: &mut World,
        cx: &Cx<'_>,
    ) {
        world.counters.login_failures += 1;
        world.note(cx.unix_ms, "failure", self.id, self.username(), &[("reason", json!(reason))]);
        let node = stanza::failure(reason, attrs);
        self.goodbye(&node, world, cx);
    }

    // ------------------------------------------------------------------ offline backlog

    /// Announces what waits for this device, and sends the first of it.
    pub(super) fn begin_backlog(&mut self, world: &mut World, cx: &Cx<'_>) {
        world.counters.ready += 1;
        world.note(cx.unix_ms, "ready", self.id, self.username(), &[]);
        let account = self.device.and_then(|device| world.accounts.get_mut(&device));
        let waiting = account.map(|account| std::mem::take(&mut account.offline)).unwrap_or_default();
        if self.backlog_total.is_some() {
            // `<active/>` a second time.
            self.backlog.extend(waiting);
        } else {
            self.backlog_total = Some(waiting.len());
            self.backlog = waiting;
        }
        if !self.backlog.is_empty() {
            self.answer_node(&stanza::offline_preview(self.backlog.len(), 0), world, cx);
            self.plan(cx.now + BACKLOG_WAIT, Act::Backlog);
        }
        self.send_backlog(world.settings.offline_primer, world, cx);
    }

    /// A client that asks for nothing has answered all that it was given: it gets more.
    pub(super) fn go_on_with_backlog(&mut self, world: &mut World, cx: &Cx<'_>) {
        if !self.asks_batches && !self.backlog.is_empty() && self.owed.len() == 0 {
            self.send_backlog(UNASKED_BATCH, world, cx);
        }
    }

    /// Sends up to `count` stanzas of the backlog, and its end when nothing is left.
    pub(super) fn send_backlog(&mut self, count: usize, world: &mut World, cx: &Cx<'_>) {
        let Some(total) = self.backlog_total else { return };
        for _ in 0..count {
            let Some(stanza) = self.backlog.pop_front() else { break };
            if let Some(mut node) = super::receive::decode_own(&stanza) {
                stanza::set_attr(&mut node, "offline", "0");
                world.counters.delivered_offline += 1;
                self.push(&node, world, cx);
            }
        }
        if self.backlog.is_empty() {
            self.backlog_total = None;
            let muted = self.shape.mute_offline == Some(true) || !world.settings.passive_offline;
            if !muted {
                self.answer_node(&stanza::offline(total), world, cx);
            }
        }
    }

    /// Gives back what this connection still owed its device, in the order in which it was sent.
    pub(super) fn hand_back(&mut self, account: &mut Account) {
        let owed = std::mem::take(&mut self.owed).into_stanzas();
        let left = std::mem::take(&mut self.backlog);
        let later = std::mem::take(&mut account.offline);
        account.offline = owed.chain(left).chain(later).collect();
    }
}

/// True for a client below the least revision; a client that says none is below all.
fn is_outdated(version: Option<[u32; 3]>, min_revision: u32) -> bool {
    if min_revision == 0 {
        return false;
    }
    let [major, minor, revision] = version.unwrap_or_default();
    ([major, minor], revision) < (VERSION, min_revision)
}

#[cfg(test)]
mod tests {
    use super::is_outdated;

    #[test]
    fn a_version_is_outdated_below_the_least_revision_only() {
        assert!(!is_outdated(None, 0));
        assert!(is_outdated(None, 1));
        assert!(is_outdated(Some([2, 3000, 99]), 100));
        assert!(!is_outdated(Some([2, 3000, 100]), 100));
        assert!(is_outdated(Some([2, 2999, 500]), 100));
        assert!(!is_outdated(Some([3, 0, 0]), 100));
    }
}
