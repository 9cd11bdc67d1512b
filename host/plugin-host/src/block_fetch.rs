//! Host side of `pangolin:block/fetch`. Redirects are followed here, each hop under the grant.

use std::time::{Duration, Instant};

use pangolin_envelope::plugin::Contact;
use url::Url;
use wasmtime::component::Resource;

use crate::{
    bindings::block::pangolin::{base::types::Refusal, block::fetch},
    block_state::BlockState,
    block_world::{FetchRequest, FetchResponse, WorldError},
    failure::{Failure, clip},
    state::{CallState, stop},
};

/// Most redirects of one request.
const REDIRECTS_MAX: u32 = 5;

/// Headers of one request, names and values together in bytes.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// Longest URL in bytes.
const URL_BYTES_MAX: usize = 8 << 10;

/// Headers that decide where a request goes or where it ends.
const RESERVED: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "proxy-authorization",
];

/// The `request` resource.
#[expect(unreachable_pub, reason = "generated code re-exports it")]
pub struct RequestDraft {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    header_secrets: Vec<(String, String)>,
    header_bytes: usize,
    body: Vec<u8>,
}

/// The `response` resource.
#[expect(unreachable_pub, reason = "generated code re-exports it")]
pub struct ResponseView {
    response: FetchResponse,
    read: usize,
}

fn header_problem(name: &str, value: &str) -> Option<&'static str> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Some("is not a header name");
    }
    if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return Some("is set by the worker only");
    }
    if value.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
        return Some("its value contains a control character");
    }
    None
}

impl fetch::Host for CallState {}

impl fetch::HostResponse for CallState {
    fn status(&mut self, this: Resource<ResponseView>) -> wasmtime::Result<u16> {
        self.called(0)?;
        Ok(self.table.get(&this)?.response.status)
    }

    fn header(&mut self, this: Resource<ResponseView>, name: String) -> wasmtime::Result<Option<String>> {
        self.called(name.len())?;
        let headers = &self.table.get(&this)?.response.headers;
        let found = headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(&name));
        let value = found.map(|(_, value)| value.clone());
        self.answers(value.as_ref().map_or(0, String::len));
        Ok(value)
    }

    fn read(
        &mut self,
        this: Resource<ResponseView>,
        limit: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, Refusal>> {
        self.called(0)?;
        if let Some(refusal) = self.forced() {
            return Ok(Err(refusal));
        }
        let view = self.table.get_mut(&this)?;
        let from = view.read;
        let to = from.saturating_add(limit as usize).min(view.response.body.len());
        view.read = to;
        let bytes = view.response.body[from..to].to_vec();
        self.answers(bytes.len());
        Ok(Ok(bytes))
    }

    fn drop(&mut self, this: Resource<ResponseView>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl RequestDraft {
    fn take_header(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.header_bytes = self.header_bytes.saturating_add(bytes);
        if self.header_bytes <= HEADER_BYTES_MAX {
            return Ok(());
        }
        Err(stop(Failure::OutputLimit {
            what: "the headers of a request in bytes".into(),
            size: self.header_bytes as u64,
            cap: HEADER_BYTES_MAX as u64,
        }))
    }
}

impl fetch::HostRequest for CallState {
    fn new(&mut self, method: String, url: String) -> wasmtime::Result<Resource<RequestDraft>> {
        self.called(method.len() + url.len())?;
        if url.len() > URL_BYTES_MAX {
            let (what, size, cap) =
                ("the URL of a request in bytes".into(), url.len() as u64, URL_BYTES_MAX as u64);
            return Err(stop(Failure::OutputLimit { what, size, cap }));
        }
        let draft = RequestDraft {
            method: clip(method.to_ascii_uppercase(), 32),
            url,
            headers: Vec::new(),
            header_secrets: Vec::new(),
            header_bytes: 0,
            body: Vec::new(),
        };
        Ok(self.table.push(draft)?)
    }

    fn header(&mut self, this: Resource<RequestDraft>, name: String, value: String) -> wasmtime::Result<()> {
        self.called(name.len() + value.len())?;
        let draft = self.table.get_mut(&this)?;
        draft.take_header(name.len() + value.len())?;
        draft.headers.push((name, value));
        Ok(())
    }

    fn header_secret(
        &mut self,
        this: Resource<RequestDraft>,
        name: String,
        secret: String,
    ) -> wasmtime::Result<()> {
        self.called(name.len() + secret.len())?;
        let draft = self.table.get_mut(&this)?;
        draft.take_header(name.len() + secret.len())?;
        draft.header_secrets.push((name, secret));
        Ok(())
    }

    fn body(&mut self, this: Resource<RequestDraft>, data: Vec<u8>) -> wasmtime::Result<()> {
        self.called(data.len())?;
        let cap = self.block()?.limits().fetch_bytes;
        let draft = self.table.get_mut(&this)?;
        let size = draft.body.len().saturating_add(data.len()) as u64;
        if size > cap {
            let what = "the body of a request in bytes".to_owned();
            return Err(stop(Failure::OutputLimit { what, size, cap }));
        }
        draft.body.extend_from_slice(&data);
        Ok(())
    }

    fn send(
        &mut self,
        this: Resource<RequestDraft>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Resource<ResponseView>, Refusal>> {
        self.called(0)?;
        if let Some(refusal) = self.forced() {
            return Ok(Err(refusal));
        }
        let mut block = self.take_block()?;
        let answer = self.table.get(&this).map(|draft| send(&mut block, draft, timeout_ms));
        self.block = Some(block);
        match answer?? {
            Ok(response) => {
                self.answers(response.body.len());
                Ok(Ok(self.table.push(ResponseView { response, read: 0 })?))
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn drop(&mut self, this: Resource<RequestDraft>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

/// Where a hop goes. Never holds the path: it may carry data.
struct Target {
    url: Url,
    host: String,
    origin: String,
}

/// Checks one hop: capability, subject, rule.
fn target(
    block: &BlockState,
    draft: &RequestDraft,
    url: &str,
    method: &str,
) -> Result<Target, (&'static str, String, String)> {
    let shown = || clip(url.split(['?', '#']).next().unwrap_or_default().to_owned(), 300);
    let no = |rule: &str| ("net", shown(), rule.to_owned());
    let mut url = Url::parse(url).map_err(|error| no(&format!("is not an absolute URL: {error}")))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(no("only https and http can be fetched"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(no("a URL must not hold a user or password; use header-secret"));
    }
    url.set_fragment(None);
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    let port = url.port_or_known_default().unwrap_or_default();
    let origin = format!("{}://{host}:{port}", url.scheme());
    let subject = format!("{method} {origin}");
    block.rules.net(url.scheme(), &host, port, method).map_err(|rule| ("net", subject, rule))?;
    for (name, value) in &draft.headers {
        if let Some(problem) = header_problem(name, value) {
            return Err(("net", clip(name.clone(), 300), format!("header {problem}")));
        }
    }
    for (name, secret) in &draft.header_secrets {
        if let Some(problem) = header_problem(name, "") {
            return Err(("net", clip(name.clone(), 300), format!("header {problem}")));
        }
        let allowed = block.rules.secret(secret, &format!("header:{name}"), &host);
        allowed.map_err(|rule| ("secret", clip(format!("{secret} header:{name} {host}"), 1_000), rule))?;
    }
    let cap = block.limits().fetches;
    if block.fetches >= cap {
        let rule = format!("a block may send {cap} requests; send fewer, or raise the limit in the grant");
        return Err(("net", origin, rule));
    }
    Ok(Target { url, host, origin })
}

fn send(
    block: &mut BlockState,
    draft: &RequestDraft,
    timeout_ms: u32,
) -> wasmtime::Result<Result<FetchResponse, Refusal>> {
    let deadline = Instant::now() + Duration::from_millis(u64::from(timeout_ms)).min(block.remaining());
    let mut method = draft.method.clone();
    let mut url = draft.url.clone();
    let mut body = draft.body.clone();
    for _ in 0..=REDIRECTS_MAX {
        // Every rule is asked again for every hop: a redirect must not reach what the block itself may not.
        let target = match target(block, draft, &url, &method) {
            Ok(target) => target,
            Err((capability, subject, rule)) => return Ok(Err(block.refuse(capability, &subject, rule))),
        };
        block.fetches += 1;
        let sent = body.len() as u64;
        let request = FetchRequest {
            method: method.clone(),
            url: target.url.to_string(),
            headers: draft.headers.clone(),
            header_secrets: draft.header_secrets.clone(),
            body: body.clone(),
            timeout: deadline.saturating_duration_since(Instant::now()),
            response_bytes: block.limits().fetch_bytes,
        };
        let answer = block.world.fetch(&request);
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                if matches!(error, WorldError::Transport(_)) {
                    let (origin, status) = (target.origin.clone(), None);
                    block.contacted(Contact { method, origin, status, sent, received: 0 });
                }
                return block.refused_by_world("net", &target.origin, error).map(Err);
            }
        };
        for (name, secret) in &draft.header_secrets {
            block.used_secret(secret, &format!("header:{name}"), &target.host);
        }
        block.contacted(Contact {
            method: method.clone(),
            origin: target.origin,
            status: Some(response.status),
            sent,
            received: response.body.len() as u64,
        });
        let location = response.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("location"));
        let (301 | 302 | 303 | 307 | 308, Some((_, location))) = (response.status, location) else {
            return Ok(Ok(response));
        };
        url = match target.url.join(location) {
            Ok(next) => next.to_string(),
            Err(error) => {
                let error = WorldError::Transport(format!("the redirect cannot be followed: {error}"));
                return block.refused_by_world("net", &draft.url, error).map(Err);
            }
        };
        if !matches!(response.status, 307 | 308) && method != "HEAD" {
            method = "GET".to_owned();
            body.clear();
        }
    }
    let error = WorldError::Transport(format!("more than {REDIRECTS_MAX} redirects"));
    block.refused_by_world("net", &clip(draft.url.clone(), 300), error).map(Err)
}
