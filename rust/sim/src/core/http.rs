//! The HTTP request that every connection begins with.

use runner_proto::ws::{self, RequestTarget};
use serde_json::json;

use super::command::{Ending, Refusal};
use super::peer::{Peer, Stage};
use super::world::{Cx, World};

impl Peer {
    /// Reads the HTTP request that a connection begins with; what follows it stays in `input`.
    pub(super) fn read_request(&mut self, input: &mut &mut [u8], world: &mut World, cx: &Cx<'_>) {
        let refusal = world.refusal(cx.now);
        let Stage::Http(head) = &mut self.stage else { return };
        let before = head.len();
        head.extend_from_slice(input);
        if refusal.is_some_and(|refusing| refusing.mode == Refusal::Hang) {
            head.truncate(ws::MAX_HEAD);
            return;
        }
        let head = std::mem::take(head);
        let request = match ws::parse_request(&head) {
            Ok(None) => {
                self.stage = Stage::Http(head);
                return;
            }
            Ok(Some(request)) => request,
            Err(error) => {
                self.protocol_error(&error.to_string(), world, cx);
                ws::write_response(
                    &mut self.out,
                    error.status(),
                    "Refused",
                    "text/plain",
                    error.to_string().as_bytes(),
                );
                self.end(Ending::Fin, cx);
                return;
            }
        };
        let used = request.len.saturating_sub(before);
        let RequestTarget::WebSocket { accept } = request.target else {
            self.serve_document(request.path, world);
            self.end(Ending::Fin, cx);
            return;
        };
        if let Some(refusing) = refusal.filter(|refusing| refusing.mode == Refusal::Status) {
            world.counters.refused += 1;
            world.note(cx.unix_ms, "upgrade-refused", self.id, None, &[("status", json!(refusing.status))]);
            ws::write_response(&mut self.out, refusing.status, "Refused", "text/plain", b"");
            self.end(Ending::Fin, cx);
            return;
        }
        ws::write_switching_protocols(&mut self.out, &accept);
        self.stage = Stage::Intro(Vec::new());
        let bytes = std::mem::take(input);
        *input = bytes.get_mut(used..).unwrap_or_default();
    }

    /// What is not a WebSocket: the service worker that tells clients the current revision.
    fn serve_document(&mut self, path: &str, world: &World) {
        let path = path.split('?').next().unwrap_or(path);
        if path == "/sw.js" {
            // The two spellings that the real file has been seen with: a JSON text inside a string, and a plain one.
            let revision = world.settings.client_revision;
            let body = format!(
                "/* service worker */\nself.__config=JSON.parse(\"{{\\\"client_revision\\\":{revision},\\\"push_phase\\\":\\\"C3\\\"}}\");\n\
                 self.__spin={{\"server_revision\":{revision},\"client_revision\":{revision}}};\n"
            );
            ws::write_response(&mut self.out, 200, "OK", "application/javascript", body.as_bytes());
        } else {
            ws::write_response(&mut self.out, 404, "Not Found", "text/plain", b"not here\n");
        }
    }
}
