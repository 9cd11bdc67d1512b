//! Pulls one artifact from a registry. Formats: OCI distribution and image specifications 1.1, and the media types
//! of WebAssembly artifacts (config `application/vnd.wasm.config.v0+json`, one layer `application/wasm`).

use pangolin_core::ids::Digest;
use serde::Deserialize;
use ureq::http::header;
use url::Url;

use crate::{
    Options, SIGNATURE_BYTES_MAX,
    error::SourceError,
    http::{Client, read},
    source::{OciReference, is_loopback},
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";
/// Ours: a layer with the detached signature file.
const SIGNATURE_LAYER: &str = "application/vnd.pangolin.plugin.signature.v1";

/// Largest manifest in bytes; registries accept no more than 4 MiB.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// Largest answer of a token service in bytes.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

struct Pull<'r> {
    reference: &'r OciReference,
    client: Client,
    authorization: Option<String>,
}

pub(crate) fn fetch(
    reference: &OciReference,
    options: &Options,
) -> Result<(Vec<u8>, Option<Vec<u8>>), SourceError> {
    let mut pull = Pull::new(reference, options);
    let manifest = pull.manifest()?;
    let layer = pull.layer(&manifest, options.bytes_max)?;
    let bytes = pull.blob(layer, options.bytes_max)?;
    if !options.with_signature {
        return Ok((bytes, None));
    }
    let signature = manifest.layers.iter().find(|layer| layer.media_type == SIGNATURE_LAYER);
    let signature = signature.map(|layer| pull.blob(layer, SIGNATURE_BYTES_MAX)).transpose()?;
    Ok((bytes, signature))
}

pub(crate) fn layer_digest(reference: &OciReference, options: &Options) -> Result<Digest, SourceError> {
    let mut pull = Pull::new(reference, options);
    let manifest = pull.manifest()?;
    let layer = pull.layer(&manifest, options.bytes_max)?;
    pull.digest(layer)
}

impl<'r> Pull<'r> {
    fn new(reference: &'r OciReference, options: &Options) -> Self {
        Self { reference, client: Client::new(options), authorization: None }
    }

    fn unfit(&self, problem: impl Into<String>) -> SourceError {
        SourceError::NotAnArtifact { reference: self.reference.to_string(), problem: problem.into() }
    }

    fn url(&self, rest: &str) -> Result<Url, SourceError> {
        Url::parse(&format!("{}/{rest}", self.reference.base())).map_err(|error| SourceError::Invalid {
            text: self.reference.to_string(),
            problem: error.to_string(),
        })
    }

    /// One GET; when the registry wants a token, one for anonymous pulls is asked for, once.
    fn get(&mut self, url: &Url, accept: &str, limit: u64) -> Result<Vec<u8>, SourceError> {
        let ask = |pull: &Self| {
            let mut headers = vec![("accept", accept)];
            if let Some(value) = &pull.authorization {
                headers.push(("authorization", value.as_str()));
            }
            pull.client.get(url, &headers)
        };
        let (at, response) = ask(self)?;
        if response.status().as_u16() != 401 || self.authorization.is_some() {
            return read(&at, response, limit);
        }
        let challenge =
            response.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        let Some(service) = challenge.and_then(|challenge| token_url(challenge, &self.reference.repository))
        else {
            return read(&at, response, limit);
        };
        // A token service is asked over https, or on this machine when the registry is there too.
        let safe = if is_loopback(&service) {
            is_loopback(url) && matches!(service.scheme(), "http" | "https")
        } else {
            service.scheme() == "https"
        };
        if !safe {
            return Err(
                self.unfit(format!("its token service {service} is not https, or points to this machine"))
            );
        }
        let answer = self.client.bytes(&service, &[], TOKEN_BYTES_MAX)?;
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        let token = ["token", "access_token"].iter().find_map(|key| answer.get(key)?.as_str());
        let token = token
            .filter(|token| token.bytes().all(|b| b.is_ascii_graphic()))
            .ok_or_else(|| self.unfit(format!("its token service {service} gave no token")))?;
        self.authorization = Some(format!("Bearer {token}"));
        let (at, response) = ask(self)?;
        read(&at, response, limit)
    }

    fn manifest(&mut self) -> Result<Manifest, SourceError> {
        let name = match (&self.reference.digest, &self.reference.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => return Err(self.unfit("the reference has neither tag nor digest")),
        };
        let url = self.url(&format!("manifests/{name}"))?;
        let bytes = self.get(&url, MANIFEST, MANIFEST_BYTES_MAX)?;
        if let Some(expected) = self.reference.digest
            && Digest::of(&bytes) != expected
        {
            return Err(SourceError::WrongDigest {
                source_text: format!("the manifest of {}", self.reference),
                expected,
                found: Digest::of(&bytes),
            });
        }
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| self.unfit(format!("its manifest is no image manifest: {error}")))?;
        if manifest.schema_version != 2 || manifest.media_type.as_ref().is_some_and(|found| found != MANIFEST)
        {
            return Err(self.unfit(format!("its manifest is not a {MANIFEST}")));
        }
        if manifest.config.media_type != CONFIG {
            return Err(self.unfit(format!(
                "its config is a {}, expected {CONFIG}",
                shown(&manifest.config.media_type)
            )));
        }
        Ok(manifest)
    }

    fn layer<'m>(&self, manifest: &'m Manifest, limit: u64) -> Result<&'m Descriptor, SourceError> {
        let mut layers = manifest.layers.iter().filter(|layer| layer.media_type == LAYER);
        let (Some(layer), None) = (layers.next(), layers.next()) else {
            return Err(self.unfit(format!("it must have exactly one layer of type {LAYER}")));
        };
        if layer.size > limit {
            return Err(SourceError::TooLarge { what: self.reference.to_string(), limit });
        }
        Ok(layer)
    }

    fn digest(&self, descriptor: &Descriptor) -> Result<Digest, SourceError> {
        descriptor
            .digest
            .parse()
            .map_err(|_| self.unfit(format!("{} is not a SHA-256 digest", shown(&descriptor.digest))))
    }

    fn blob(&mut self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, SourceError> {
        let expected = self.digest(descriptor)?;
        let url = self.url(&format!("blobs/{expected}"))?;
        let bytes = self.get(&url, "*/*", limit.min(descriptor.size))?;
        let found = Digest::of(&bytes);
        if found != expected {
            return Err(SourceError::WrongDigest { source_text: url.to_string(), expected, found });
        }
        Ok(bytes)
    }
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(100).collect::<String>())
}

/// Address of the token service named in a `WWW-Authenticate: Bearer realm="…",service="…"` header. The scope is
/// ours: pulling this repository, whatever the header asks for.
fn token_url(challenge: &str, repository: &str) -> Option<Url> {
    let (scheme, parameters) = challenge.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let parameter = |name: &str| {
        parameters.split(',').find_map(|part| {
            let (key, value) = part.trim().split_once('=')?;
            (key.eq_ignore_ascii_case(name)).then(|| value.trim_matches('"'))
        })
    };
    let mut url = Url::parse(parameter("realm")?).ok()?;
    if let Some(service) = parameter("service") {
        url.query_pairs_mut().append_pair("service", service);
    }
    url.query_pairs_mut().append_pair("scope", &format!("repository:{repository}:pull"));
    Some(url)
}
