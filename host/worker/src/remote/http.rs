//! Signed requests, with repetitions.

use std::{
    fs::File,
    io::{Read, Write},
    time::Duration,
};

use pangolin_core::ids::Digest;
use pangolin_envelope::start::SignedRequest;
use sha2::{Digest as _, Sha256};
use ureq::{Agent, SendBody, http::Request};

use crate::signals::Signals;

/// How often a request is made, the first time included.
const ATTEMPTS: u32 = 8;

/// First and longest pause between two attempts. Together they bridge about a minute.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(20));

/// Longest exchange, body included: 5 GiB at 3 MB/s.
const EXCHANGE: Duration = Duration::from_secs(1_800);

/// What became of a request that creates something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Created {
    /// It was created.
    New,
    /// Something was there already, perhaps from an earlier attempt whose answer was lost.
    WasThere,
}

/// Why one attempt did not work.
enum Failure {
    /// Another attempt may help.
    Passing(String),
    /// It will not.
    Final(String),
}

/// Makes requests. Messages never hold a signature.
pub(super) struct Http {
    agent: Agent,
    signals: Signals,
}

impl Http {
    pub(super) fn new(signals: Signals) -> Self {
        let agent = Agent::config_builder()
            // What was signed is what is contacted.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(Duration::from_secs(120)))
            .timeout_global(Some(EXCHANGE))
            .user_agent(concat!("pangolin-worker/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Self { agent, signals }
    }

    /// Reads at most `limit` bytes into memory.
    pub(super) fn get(&self, from: &SignedRequest, limit: u64) -> Result<Vec<u8>, String> {
        self.repeat(|| {
            let mut bytes = Vec::new();
            self.read(from, limit, |chunk| {
                bytes.extend_from_slice(chunk);
                Ok(())
            })?;
            Ok(bytes)
        })
    }

    /// Reads into a file and checks size and digest.
    pub(super) fn fetch(
        &self,
        from: &SignedRequest,
        (digest, size): (Digest, u64),
        create: impl Fn() -> std::io::Result<File>,
    ) -> Result<(), String> {
        self.repeat(|| {
            let io = |error: std::io::Error| Failure::Final(format!("cannot write: {error}"));
            let mut file = create().map_err(io)?;
            let (mut hasher, mut length) = (Sha256::new(), 0_u64);
            self.read(from, size, |chunk| {
                hasher.update(chunk);
                length += chunk.len() as u64;
                file.write_all(chunk)
            })?;
            let found = Digest::from_bytes(hasher.finalize().into());
            if (found, length) == (digest, size) {
                return Ok(());
            }
            // A connection that broke off can look like a complete answer.
            Err(Failure::Passing(format!(
                "got {length} bytes with digest {found}, expected {size} with {digest}"
            )))
        })
    }

    /// Creates an object from memory.
    pub(super) fn create(&self, at: &SignedRequest, bytes: &[u8]) -> Result<Created, String> {
        self.repeat(|| {
            self.put(
                at,
                bytes.len() as u64,
                SendBody::from_owned_reader(std::io::Cursor::new(bytes.to_vec())),
            )
        })
    }

    /// Creates an object from a file.
    pub(super) fn create_from(
        &self,
        at: &SignedRequest,
        open: impl Fn() -> std::io::Result<(File, u64)>,
    ) -> Result<Created, String> {
        self.repeat(|| {
            let (file, size) = open().map_err(|error| Failure::Final(format!("cannot read: {error}")))?;
            self.put(at, size, SendBody::from_owned_reader(file))
        })
    }

    fn put(&self, at: &SignedRequest, size: u64, body: SendBody<'_>) -> Result<Created, Failure> {
        let mut request = Request::put(&at.url).header("content-length", size);
        for (name, value) in at.headers.iter().filter(|(name, _)| !is_own(name)) {
            request = request.header(name, value);
        }
        let request =
            request.body(body).map_err(|_| Failure::Final("the URL or a header is malformed".to_owned()))?;
        let answer = self.agent.run(request).map_err(|error| passing(at, &error))?;
        match answer.status().as_u16() {
            200..=299 => Ok(Created::New),
            412 => Ok(Created::WasThere),
            // Met another writer, as S3 says it.
            409 => Err(Failure::Passing("status 409".to_owned())),
            status => Err(refused(status)),
        }
    }

    fn read(
        &self,
        from: &SignedRequest,
        limit: u64,
        mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), Failure> {
        let mut request = Request::get(&from.url);
        for (name, value) in from.headers.iter().filter(|(name, _)| !is_own(name)) {
            request = request.header(name, value);
        }
        let request =
            request.body(()).map_err(|_| Failure::Final("the URL or a header is malformed".to_owned()))?;
        let mut answer = self.agent.run(request).map_err(|error| passing(from, &error))?;
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(refused(status));
        }
        let mut body = answer.body_mut().as_reader();
        let (mut chunk, mut length) = (vec![0_u8; 64 << 10], 0_u64);
        loop {
            let read = body.read(&mut chunk).map_err(|error| passing(from, &error))?;
            if read == 0 {
                return Ok(());
            }
            length += read as u64;
            if length > limit {
                return Err(Failure::Final(format!("there are more than {limit} bytes")));
            }
            take(&chunk[..read]).map_err(|error| Failure::Final(format!("cannot write: {error}")))?;
        }
    }

    fn repeat<T>(&self, mut act: impl FnMut() -> Result<T, Failure>) -> Result<T, String> {
        let (mut pause, longest) = PAUSES;
        for attempt in 1.. {
            match act() {
                Ok(value) => return Ok(value),
                Err(Failure::Final(message)) => return Err(message),
                Err(Failure::Passing(message)) if attempt >= ATTEMPTS => {
                    return Err(format!("{message} (after {attempt} attempts)"));
                }
                Err(Failure::Passing(_)) => {
                    // A signal ends the pause, not the work: what to do about it is the caller's business.
                    self.signals.wait(pause);
                    pause = (pause * 2).min(longest);
                }
            }
        }
        unreachable!("the loop ends by returning")
    }
}

/// Headers that the client sets itself.
fn is_own(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case("content-length")
}

fn refused(status: u16) -> Failure {
    let text = match status {
        403 => "status 403: the signed URL has expired, or what it names is gone".to_owned(),
        404 => "status 404: it is gone".to_owned(),
        status => format!("status {status}"),
    };
    if status == 429 || status >= 500 { Failure::Passing(text) } else { Failure::Final(text) }
}

fn passing(request: &SignedRequest, error: &dyn std::fmt::Display) -> Failure {
    Failure::Passing(error.to_string().replace(&request.url, "<signed URL>"))
}
