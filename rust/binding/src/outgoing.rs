//! A text for a chat, as Python hands it down.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use runner_client::{Outgoing, Quoted};
use runner_proto::jid::Jid;

/// Longest id of a message, bytes; those of others have about 32.
const MAX_MESSAGE_ID: usize = 128;

#[pyclass(frozen, module = "runner._core")]
pub(crate) struct OutgoingText(Outgoing);

impl OutgoingText {
    pub(crate) fn inner(&self) -> &Outgoing {
        &self.0
    }
}

#[pymethods]
impl OutgoingText {
    #[new]
    #[pyo3(signature = (*, token, chat, message_id, text, quoted = None))]
    fn new(
        token: u64,
        chat: &str,
        message_id: &str,
        text: String,
        quoted: Option<(String, String, Vec<u8>)>,
    ) -> PyResult<Self> {
        if message_id.is_empty() || message_id.len() > MAX_MESSAGE_ID {
            let len = message_id.len();
            let words = format!("message_id: {len} bytes, and it has 1 to {MAX_MESSAGE_ID}");
            return Err(PyValueError::new_err(words));
        }
        let quoted = quoted.map(|(id, sender, content)| {
            Ok::<_, PyErr>(Quoted { id, sender: jid("quoted", &sender)?, content })
        });
        let (chat, quoted) = (jid("chat", chat)?, quoted.transpose()?);
        Ok(Self(Outgoing { token, chat, id: message_id.to_owned(), text, quoted }))
    }
}

fn jid(name: &str, text: &str) -> PyResult<Jid> {
    text.parse().map_err(|error| PyValueError::new_err(format!("{name}: {text:?}: {error}")))
}
