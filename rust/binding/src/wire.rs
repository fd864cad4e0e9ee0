//! The node codec for Python: `decode_node`, `encode_node`, `WireNode`.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use runner_proto::jid::Jid;
use runner_proto::node::{AttrValue, Content, EncodeError, Limits, MAX_DEPTH, Node, NodeContent, NodeRef};
use runner_proto::node::{Scratch, decode, encode};

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<WireNode>()?;
    m.add_function(wrap_pyfunction!(decode_node, m)?)?;
    m.add_function(wrap_pyfunction!(encode_node, m)?)
}

#[pyclass(frozen, module = "runner._core")]
struct WireNode {
    #[pyo3(get)]
    tag: Py<PyString>,
    #[pyo3(get)]
    attrs: Py<PyDict>,
    #[pyo3(get)]
    content: Py<PyAny>,
}

#[pyfunction]
fn decode_node(py: Python<'_>, data: &[u8]) -> PyResult<WireNode> {
    let mut scratch = Scratch::new();
    let node = decode(data, &mut scratch, &Limits::default())
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    to_python(py, node)
}

/// As deep as `Limits` let the node be.
fn to_python(py: Python<'_>, node: NodeRef<'_>) -> PyResult<WireNode> {
    let attrs = PyDict::new(py);
    for (key, value) in node.attrs() {
        let key = PyString::new(py, &key.to_cow());
        // A key that comes twice: the first counts, as in `NodeRef::attr`.
        if !attrs.contains(&key)? {
            attrs.set_item(key, &*value.as_str_cow())?;
        }
    }
    let content = match node.content() {
        Content::None => py.None(),
        Content::Bytes(bytes) => PyBytes::new(py, bytes).into_any().unbind(),
        Content::Text(text) => PyString::new(py, &text.as_str_cow()).into_any().unbind(),
        Content::Nodes(children) => {
            let children: Vec<WireNode> =
                children.map(|child| to_python(py, child)).collect::<PyResult<_>>()?;
            PyList::new(py, children)?.into_any().unbind()
        }
    };
    Ok(WireNode { tag: PyString::new(py, &node.tag().to_cow()).unbind(), attrs: attrs.unbind(), content })
}

#[pyfunction]
fn encode_node<'py>(
    py: Python<'py>,
    tag: String,
    attrs: &Bound<'py, PyDict>,
    content: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let node = from_python(tag, attrs, content, 1)?;
    node.check().map_err(refused)?;
    let mut out = Vec::new();
    encode(&node, &mut out);
    Ok(PyBytes::new(py, &out))
}

fn refused(error: EncodeError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Python has only text, so what is exactly a JID of a known server becomes one; all else stays text.
fn from_python(
    tag: String,
    attrs: &Bound<'_, PyDict>,
    content: &Bound<'_, PyAny>,
    depth: usize,
) -> PyResult<Node> {
    if depth > MAX_DEPTH {
        return Err(refused(EncodeError::TooDeep));
    }
    let attrs = attrs
        .iter()
        .map(|(key, value)| {
            let value: String = value.extract()?;
            Ok((key.extract()?, Jid::recognise(&value).map_or(AttrValue::Str(value), AttrValue::Jid)))
        })
        .collect::<PyResult<_>>()?;
    let content = if content.is_none() {
        NodeContent::None
    } else if let Ok(bytes) = content.cast::<PyBytes>() {
        NodeContent::Bytes(bytes.as_bytes().to_vec())
    } else if let Ok(text) = content.cast::<PyString>() {
        let text = text.to_str()?;
        Jid::recognise(text).map_or_else(|| NodeContent::Text(text.to_owned()), NodeContent::Jid)
    } else if let Ok(children) = content.cast::<PyList>() {
        NodeContent::Nodes(
            children.iter().map(|child| child_from_python(&child, depth + 1)).collect::<PyResult<_>>()?,
        )
    } else {
        return Err(PyTypeError::new_err(
            "content must be None, bytes, str or a list of (tag, attrs, content)",
        ));
    };
    Ok(Node { tag, attrs, content })
}

fn child_from_python(child: &Bound<'_, PyAny>, depth: usize) -> PyResult<Node> {
    let child = child.cast::<PyTuple>()?;
    let attrs = child.get_item(1)?;
    from_python(child.get_item(0)?.extract()?, attrs.cast::<PyDict>()?, &child.get_item(2)?, depth)
}
