//! Bounded GET requests.

use std::{io::Read as _, sync::Arc};

use ureq::{
    Agent, Body,
    http::{Response, header},
    tls::{RootCerts, TlsConfig},
};
use url::Url;

use crate::{Options, SIGNATURE_BYTES_MAX, error::SourceError, source::is_loopback};

/// Most redirects that are followed.
const REDIRECTS_MAX: usize = 5;

pub(crate) fn fetch(url: &Url, options: &Options) -> Result<(Vec<u8>, Option<Vec<u8>>), SourceError> {
    let client = Client::new(options);
    let bytes = client.bytes(url, &[], options.bytes_max)?;
    if !options.with_signature {
        return Ok((bytes, None));
    }
    let mut beside = url.clone();
    beside.set_path(&format!("{}.sig", url.path()));
    let signature = match client.bytes(&beside, &[], SIGNATURE_BYTES_MAX) {
        Ok(bytes) => Some(bytes),
        Err(SourceError::Status { status: 403 | 404 | 410, .. }) => None,
        Err(error) => return Err(error),
    };
    Ok((bytes, signature))
}

/// A blocking client that follows redirects itself, because where they may lead is policy.
pub(crate) struct Client {
    agent: Agent,
    local: Agent,
}

impl Client {
    pub(crate) fn new(options: &Options) -> Self {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = || {
            Agent::config_builder()
                .tls_config(tls.clone())
                .timeout_global(Some(options.timeout))
                .max_redirects(0)
                .max_redirects_will_error(false)
                .http_status_as_error(false)
                .user_agent("pangolin-plugin-source")
        };
        // What is on this machine is not asked for through a proxy.
        Self { agent: config().build().into(), local: config().proxy(None).build().into() }
    }

    /// One GET with the given headers, redirects followed; answers whatever status comes in the end. Headers go to
    /// the first host only: they may hold a token.
    pub(crate) fn get(
        &self,
        url: &Url,
        headers: &[(&str, &str)],
    ) -> Result<(Url, Response<Body>), SourceError> {
        let mut at = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let agent = if is_loopback(&at) { &self.local } else { &self.agent };
            let mut request = agent.get(at.as_str());
            for (name, value) in
                headers.iter().filter(|(name, _)| *name == "accept" || at.origin() == url.origin())
            {
                request = request.header(*name, *value);
            }
            let response = request
                .call()
                .map_err(|error| SourceError::Transfer { url: at.to_string(), problem: error.to_string() })?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((at, response));
            }
            let to =
                response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or("");
            let refused = |problem| SourceError::Redirect {
                url: at.to_string(),
                to: to.chars().filter(|c| !c.is_control()).take(200).collect(),
                problem,
            };
            let next = at.join(to).map_err(|_| refused("not an address"))?;
            let local = is_loopback(&next);
            match next.scheme() {
                // A foreign server must not make us ask services of this machine.
                "http" | "https" if local && is_loopback(&at) => {}
                "https" if !local => {}
                "http" => return Err(refused("not https")),
                "https" => {
                    return Err(refused("this machine is not a place for a foreign server to point to"));
                }
                _ => return Err(refused("not https")),
            }
            at = next;
        }
        Err(SourceError::Redirect {
            url: url.to_string(),
            to: at.to_string(),
            problem: "more than 5 redirects",
        })
    }

    /// The body of a 200, bounded.
    pub(crate) fn bytes(
        &self,
        url: &Url,
        headers: &[(&str, &str)],
        limit: u64,
    ) -> Result<Vec<u8>, SourceError> {
        let (at, response) = self.get(url, headers)?;
        read(&at, response, limit)
    }
}

/// The body of a 200, bounded.
pub(crate) fn read(url: &Url, mut response: Response<Body>, limit: u64) -> Result<Vec<u8>, SourceError> {
    if response.status().as_u16() != 200 {
        return Err(SourceError::Status { url: url.to_string(), status: response.status().as_u16() });
    }
    let too_large = || SourceError::TooLarge { what: url.to_string(), limit };
    if response.body().content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let reader = response.body_mut().with_config().limit(u64::MAX).reader();
    reader
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| SourceError::Transfer { url: url.to_string(), problem: error.to_string() })?;
    if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
}
