//! Answers.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};

/// A finished answer.
pub(crate) type Reply = Response<Full<Bytes>>;

/// An error of S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The newest version is a delete marker.
    pub(crate) marker: bool,
}

pub(crate) fn refuse<T>(status: u16, code: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { status, code, message: message.into(), marker: false })
}

impl Refusal {
    pub(crate) fn reply(self, is_head: bool) -> Reply {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{}</Message><RequestId>fake</RequestId></Error>",
            self.code,
            escape(&self.message)
        );
        let body = if is_head { Bytes::new() } else { Bytes::from(text) };
        let mut reply = Response::new(Full::new(body));
        *reply.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        set(&mut reply, "content-type", "application/xml");
        if self.marker {
            set(&mut reply, "x-amz-delete-marker", "true");
        }
        reply
    }
}

pub(crate) fn xml(body: String) -> Reply {
    let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}");
    let mut reply = Response::new(Full::new(Bytes::from(text)));
    set(&mut reply, "content-type", "application/xml");
    reply
}

pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::new()));
    *reply.status_mut() = status;
    reply
}

pub(crate) fn set(reply: &mut Reply, name: &'static str, value: &str) {
    if let Ok(value) = hyper::header::HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The text of the first element with this name.
pub(crate) fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside.trim())
}
