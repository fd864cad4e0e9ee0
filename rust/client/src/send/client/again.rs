//! What the client does with those who ask for a message of ours again.

use runner_proto::{jid::Server, node::NodeRef, phase::Phase, session::Io, time::Instant};

use crate::{
    Client, Effect,
    send::{
        Again, MAX_AGAIN, MAX_RESENDS, Purpose,
        asked::{Asking, MAX_NAME},
        devices,
        groups::is_group,
    },
};

/// The reasons of a retry receipt that mean "with this session never": no session, invalid key or key id, bad MAC, invalid
/// session, invalid message key. docs/protocol.md, "Messages".
const SESSION_IS_LOST: [u64; 6] = [1, 2, 3, 7, 8, 9];

impl Client {
    /// A device could not read a message of ours and asks for it again; the receipt has its ack.
    pub(crate) fn on_retry_receipt(
        &mut self,
        receipt: NodeRef<'_>,
        io: &mut Io<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let jid = |key| receipt.attr(key).and_then(|jid| jid.to_jid());
        // In a group the participant asks.
        let (device, group) = match (jid("from"), jid("participant")) {
            (Some(from), None) => (from, None),
            (Some(from), Some(participant)) if is_group(&from) => (participant, Some(from)),
            _ => return,
        };
        let Some(retry) = receipt.child("retry") else { return };
        let Some(id) = receipt.attr("id").map(|id| id.to_string()) else { return };
        let is_user = matches!(device.server, Server::Pn | Server::Lid | Server::Hosted | Server::HostedLid);
        let names = [Some(&id), Some(&device.user), group.as_ref().map(|group| &group.user)];
        if !is_user || names.into_iter().flatten().any(|name| name.len() > MAX_NAME) {
            return;
        }
        // The answer is on its way.
        if self.sender.as_ref().is_some_and(|sender| sender.is_answering(&id, &device)) {
            return;
        }
        let number = |key| retry.attr(key).and_then(|value| value.parse_u64());
        let count = number("count").unwrap_or(1);
        let is_within = count <= u64::from(MAX_RESENDS) && self.session.phase() == Phase::Online;
        let askings = self.askings.get_or_insert_default();
        if !is_within || !askings.fits(&id, &device) {
            self.session.counters_mut().messages_not_resent += 1;
            return;
        }
        let again = Again {
            device,
            count,
            registration_id: devices::registration_id(receipt),
            is_session_lost: number("error").is_some_and(|error| SESSION_IS_LOST.contains(&error)),
        };
        askings.push(Asking { id: id.into(), group, again, bundle: devices::bundle_of_receipt(receipt) });
        self.advance(io, effects);
    }

    /// Begins with those who wait for a message again, as many as may be answered now.
    pub(super) fn answer_askings(&mut self, io: &Io<'_>) {
        while self.may_answer()
            && let Some(asking) = self.askings.as_mut().and_then(|askings| askings.pop(io.now))
        {
            let Asking { id, group, again, bundle } = asking;
            let device = again.device.clone();
            let chat = group.unwrap_or_else(|| device.to_non_ad());
            let mut job = self.job(Purpose::Again(again), chat, id, (io.now, io.unix_ms));
            job.bundles.extend(bundle.map(|bundle| (device, bundle)));
            self.sender.get_or_insert_default().jobs.push_back(job);
        }
    }

    /// Whether one more message may be on its way again.
    fn may_answer(&self) -> bool {
        let has_room = self.sender.as_ref().is_none_or(|sender| sender.count(true) < MAX_AGAIN);
        has_room && self.session.phase() == Phase::Online
    }

    /// When somebody may be sent a message again. Without room for it there is no such time: the end of another one is.
    pub(crate) fn poll_askings(&self) -> Option<Instant> {
        let askings = self.askings.as_ref()?;
        askings.poll_timeout().filter(|_| self.may_answer())
    }
}
