//! What is in a message, for Python: a view that is read anew from the bytes.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use runner_client::content::{Kind, MessageKey as KeyView, View};

/// A view holds the bytes and what was read of them, copied: Python keeps it as long as it likes.
#[pyclass(frozen, module = "runner._core")]
pub(crate) struct MessageView {
    kind: Kind,
    text: Option<String>,
    media: Option<MediaFields>,
    place: Option<(f64, f64)>,
    target: Option<MessageKey>,
    quoted: Option<MessageKey>,
    mentions: Vec<String>,
    is_view_once: bool,
    is_forwarded: bool,
    destination: Option<String>,
}

#[derive(Clone)]
struct MediaFields {
    url: Option<String>,
    direct_path: Option<String>,
    mime_type: Option<String>,
    file_name: Option<String>,
    file_bytes: Option<u64>,
    key: Option<Vec<u8>>,
    sha256: Option<Vec<u8>>,
    encrypted_sha256: Option<Vec<u8>>,
    duration_s: Option<u64>,
    width: Option<u64>,
    height: Option<u64>,
    is_voice_note: bool,
}

#[pyclass(frozen, module = "runner._core")]
struct MessageMedia(MediaFields);

#[pyclass(frozen, module = "runner._core")]
#[derive(Clone)]
struct MessageKey {
    chat: Option<String>,
    id: Option<String>,
    participant: Option<String>,
    is_from_me: bool,
}

impl From<KeyView<'_>> for MessageKey {
    fn from(key: KeyView<'_>) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self {
            chat: owned(key.chat),
            id: owned(key.id),
            participant: owned(key.participant),
            is_from_me: key.is_from_me,
        }
    }
}

impl From<View<'_>> for MessageView {
    fn from(view: View<'_>) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let bytes = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        Self {
            kind: view.kind,
            text: owned(view.text),
            media: view.media.map(|media| MediaFields {
                url: owned(media.url),
                direct_path: owned(media.direct_path),
                mime_type: owned(media.mime_type),
                file_name: owned(media.file_name),
                file_bytes: media.file_bytes,
                key: bytes(media.key),
                sha256: bytes(media.sha256),
                encrypted_sha256: bytes(media.encrypted_sha256),
                duration_s: media.duration_s,
                width: media.width,
                height: media.height,
                is_voice_note: media.is_voice_note,
            }),
            place: view.place.map(|place| (place.latitude, place.longitude)),
            target: view.target.map(Into::into),
            quoted: view.quoted.map(Into::into),
            mentions: view.mentions.into_iter().map(str::to_owned).collect(),
            is_view_once: view.is_view_once,
            is_forwarded: view.is_forwarded,
            destination: owned(view.destination),
        }
    }
}

#[pymethods]
impl MessageView {
    #[new]
    fn new(content: &[u8]) -> PyResult<Self> {
        let view = View::read(content).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(view.into())
    }

    #[getter]
    fn kind(&self) -> &'static str {
        self.kind.slug()
    }

    #[getter]
    fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    #[getter]
    fn media(&self) -> Option<MessageMedia> {
        self.media.clone().map(MessageMedia)
    }

    #[getter]
    fn place(&self) -> Option<(f64, f64)> {
        self.place
    }

    #[getter]
    fn target(&self) -> Option<MessageKey> {
        self.target.clone()
    }

    #[getter]
    fn quoted(&self) -> Option<MessageKey> {
        self.quoted.clone()
    }

    #[getter]
    fn mentions(&self) -> Vec<String> {
        self.mentions.clone()
    }

    #[getter]
    fn is_view_once(&self) -> bool {
        self.is_view_once
    }

    #[getter]
    fn is_forwarded(&self) -> bool {
        self.is_forwarded
    }

    #[getter]
    fn destination(&self) -> Option<&str> {
        self.destination.as_deref()
    }

    /// The words stay out of logs.
    fn __repr__(&self) -> String {
        format!("MessageView({})", self.kind.slug())
    }
}

#[pymethods]
impl MessageMedia {
    #[getter]
    fn url(&self) -> Option<&str> {
        self.0.url.as_deref()
    }

    #[getter]
    fn direct_path(&self) -> Option<&str> {
        self.0.direct_path.as_deref()
    }

    #[getter]
    fn mime_type(&self) -> Option<&str> {
        self.0.mime_type.as_deref()
    }

    #[getter]
    fn file_name(&self) -> Option<&str> {
        self.0.file_name.as_deref()
    }

    #[getter]
    fn file_bytes(&self) -> Option<u64> {
        self.0.file_bytes
    }

    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.key.as_ref().map(|key| PyBytes::new(py, key))
    }

    #[getter]
    fn sha256<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.sha256.as_ref().map(|sum| PyBytes::new(py, sum))
    }

    #[getter]
    fn encrypted_sha256<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.encrypted_sha256.as_ref().map(|sum| PyBytes::new(py, sum))
    }

    #[getter]
    fn duration_s(&self) -> Option<u64> {
        self.0.duration_s
    }

    #[getter]
    fn width(&self) -> Option<u64> {
        self.0.width
    }

    #[getter]
    fn height(&self) -> Option<u64> {
        self.0.height
    }

    #[getter]
    fn is_voice_note(&self) -> bool {
        self.0.is_voice_note
    }
}

#[pymethods]
impl MessageKey {
    #[getter]
    fn chat(&self) -> Option<&str> {
        self.chat.as_deref()
    }

    #[getter]
    fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    #[getter]
    fn participant(&self) -> Option<&str> {
        self.participant.as_deref()
    }

    #[getter]
    fn is_from_me(&self) -> bool {
        self.is_from_me
    }
}

/// The slug of a content's kind; `unknown` for bytes that are no message.
pub(crate) fn kind_of(content: &[u8]) -> &'static str {
    View::read(content).map_or(Kind::Unknown, |view| view.kind).slug()
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<MessageView>()?;
    m.add_class::<MessageMedia>()?;
    m.add_class::<MessageKey>()
}
