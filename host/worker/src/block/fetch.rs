//! One HTTP exchange of a block. The grant has been checked; redirects are not followed here.

use std::io::Read as _;

use pangolin_plugin_host::{FetchRequest, FetchResponse, WorldError};
use ureq::{
    Agent,
    http::{HeaderName, HeaderValue, Request},
};

use crate::redact::Redactor;

/// Headers of an answer in bytes.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// Sends the request with these headers; the answer is redacted.
pub(crate) fn exchange(
    request: &FetchRequest,
    headers: &[(String, String)],
    redactor: &Redactor,
) -> Result<FetchResponse, WorldError> {
    let agent: Agent = Agent::config_builder()
        // No proxy of the environment, no cookies, no redirects: what was granted is what is contacted.
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .max_response_header_size(HEADER_BYTES_MAX)
        .timeout_global(Some(request.timeout))
        .user_agent(concat!("pangolin-block/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut builder = Request::builder().method(request.method.as_str()).uri(&request.url);
    for (name, value) in headers {
        // Neither of them in a message: the value may be a secret.
        let (Ok(parsed), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
            return Err(WorldError::Refused(format!("header {name:?} cannot be sent with its value")));
        };
        value.set_sensitive(true);
        builder = builder.header(parsed, value);
    }
    let transport = |error: &dyn std::fmt::Display| WorldError::Transport(redactor.text(&error.to_string()));
    let message = builder.body(request.body.clone()).map_err(|error| transport(&error))?;
    let mut answer = agent.run(message).map_err(|error| transport(&error))?;
    let limit = request.response_bytes;
    let mut body = Vec::new();
    answer
        .body_mut()
        .as_reader()
        .take(limit.saturating_add(1))
        .read_to_end(&mut body)
        .map_err(|error| transport(&error))?;
    if body.len() as u64 > limit {
        return Err(WorldError::Transport(format!("the answer has more than {limit} bytes")));
    }
    let headers = answer
        .headers()
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), redactor.text(&String::from_utf8_lossy(value.as_bytes())))
        })
        .collect();
    Ok(FetchResponse { status: answer.status().as_u16(), headers, body: redactor.bytes(&body) })
}
