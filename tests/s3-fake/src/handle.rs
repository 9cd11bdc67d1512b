//! From a request to an answer.

use std::ops::Bound;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::{HeaderMap, Method, StatusCode, http::request::Parts};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::{
    buckets::{NewVersion, State, Version},
    lock::Retention,
    policy::Asked,
    reply::{Refusal, Reply, element, empty, escape, refuse, set, xml},
    time,
};

/// A request, taken apart.
#[derive(Debug)]
pub(crate) struct Asking {
    method: Method,
    bucket: String,
    /// Empty for requests about the bucket.
    key: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
}

impl Asking {
    pub(crate) fn new(parts: &Parts, body: Bytes) -> Self {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let path = parts.uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let pairs = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let query = pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decode(name), decode(value)))
            .collect();
        Self {
            method: parts.method.clone(),
            bucket: decode(bucket),
            key: decode(key),
            query,
            headers: parts.headers.clone(),
            body,
        }
    }

    fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn version(&self) -> Option<&str> {
        self.param("versionId")
    }

    fn bypasses(&self) -> bool {
        self.header("x-amz-bypass-governance-retention") == Some("true")
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_default()
    }

    /// Conditions and lock settings as policies see them.
    fn asked<'a>(&self, action: &'a str, retention: Option<&Retention>, now_ms: i64) -> Asked<'a> {
        let mut keys = vec![("aws:SecureTransport", "true".to_owned())];
        if let Some(value) = self.header("if-none-match") {
            keys.push(("s3:if-none-match", value.to_owned()));
        }
        if let Some(retention) = retention {
            keys.push(("s3:object-lock-mode", retention.mode.clone()));
            let days = (retention.until_ms - now_ms) / 86_400_000;
            keys.push(("s3:object-lock-remaining-retention-days", days.to_string()));
        }
        Asked { action, on_object: !self.key.is_empty(), keys }
    }
}

pub(crate) fn handle(state: &mut State, asking: &Asking) -> Result<Reply, Refusal> {
    check_presigned(state, asking)?;
    check_payload(asking)?;
    if asking.bucket.is_empty() {
        return refuse(501, "NotImplemented", "requests without a bucket");
    }
    let names: Vec<&str> = asking
        .query
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !name.starts_with("X-Amz"))
        .collect();
    if asking.key.is_empty() { on_bucket(state, asking, &names) } else { on_object(state, asking, &names) }
}

/// What can be said about a pre-signed request without the key: its time, and that the signed headers are there.
fn check_presigned(state: &State, asking: &Asking) -> Result<(), Refusal> {
    let (Some(date), Some(life)) = (asking.param("X-Amz-Date"), asking.param("X-Amz-Expires")) else {
        return Ok(());
    };
    let (Some(signed_ms), Ok(seconds)) = (time::parse_basic(date), life.parse::<i64>()) else {
        return refuse(400, "AuthorizationQueryParametersError", "X-Amz-Date or X-Amz-Expires is malformed");
    };
    if !(1..=604_800).contains(&seconds) {
        return refuse(
            400,
            "AuthorizationQueryParametersError",
            "X-Amz-Expires must be less than a week (in seconds)",
        );
    }
    if state.now_ms() > signed_ms + seconds * 1_000 {
        return refuse(403, "AccessDenied", "Request has expired");
    }
    let missing = asking
        .param("X-Amz-SignedHeaders")
        .unwrap_or_default()
        .split(';')
        .find(|name| asking.header(name).is_none());
    match missing {
        Some(name) => refuse(403, "SignatureDoesNotMatch", format!("the signed header {name} is missing")),
        None => Ok(()),
    }
}

/// The body is the one that was promised.
fn check_payload(asking: &Asking) -> Result<(), Refusal> {
    let hash = Sha256::digest(&asking.body);
    if let Some(promised) = asking.header("x-amz-content-sha256") {
        if promised.starts_with("STREAMING-") {
            return refuse(501, "NotImplemented", "chunked uploads with trailers");
        }
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        if promised != "UNSIGNED-PAYLOAD" && promised != hex {
            return refuse(
                400,
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            );
        }
    }
    if let Some(promised) = asking.header("x-amz-checksum-sha256") {
        match STANDARD.decode(promised) {
            Ok(bytes) if bytes.len() == 32 && bytes == hash.as_slice() => {}
            Ok(bytes) if bytes.len() == 32 => {
                return refuse(
                    400,
                    "BadDigest",
                    "The SHA256 you specified did not match the calculated checksum.",
                );
            }
            _ => return refuse(400, "InvalidRequest", "Value for x-amz-checksum-sha256 header is invalid."),
        }
    }
    if let Some(promised) = asking.header("x-amz-checksum-crc32")
        && STANDARD.encode(crc32fast::hash(&asking.body).to_be_bytes()) != promised
    {
        return refuse(400, "BadDigest", "The CRC32 you specified did not match the calculated checksum.");
    }
    let other = [
        "content-md5",
        "x-amz-checksum-crc32c",
        "x-amz-checksum-sha1",
        "x-amz-trailer",
        "x-amz-copy-source",
        "range",
    ];
    match other.into_iter().find(|name| asking.header(name).is_some()) {
        Some(name) => refuse(501, "NotImplemented", format!("the header {name}")),
        None => Ok(()),
    }
}

fn on_object(state: &mut State, asking: &Asking, names: &[&str]) -> Result<Reply, Refusal> {
    let Asking { bucket, key, .. } = asking;
    let plain = names.iter().all(|name| matches!(*name, "versionId" | "x-id"));
    let retention = names.contains(&"retention");
    let now_ms = state.now_ms();
    match asking.method {
        Method::PUT if retention => {
            let text = asking.text();
            let new = Retention::new(element(text, "Mode"), element(text, "RetainUntilDate"), now_ms)?;
            state.check_policy(bucket, &asking.asked("s3:PutObjectRetention", new.as_ref(), now_ms))?;
            state.set_retention(bucket, key, asking.version(), new, asking.bypasses())?;
            Ok(empty(StatusCode::OK))
        }
        Method::GET if retention => {
            let found = state.find(bucket, key, asking.version())?;
            match found.retention {
                Some(Retention { mode, until_ms }) => Ok(xml(format!(
                    "<Retention><Mode>{mode}</Mode><RetainUntilDate>{}</RetainUntilDate></Retention>",
                    time::iso(until_ms)
                ))),
                None => refuse(
                    404,
                    "NoSuchObjectLockConfiguration",
                    "The specified object does not have a ObjectLock configuration",
                ),
            }
        }
        Method::PUT if plain => put(state, asking, now_ms),
        Method::GET | Method::HEAD if plain => {
            let found = state.find(bucket, key, asking.version())?;
            let mut reply = empty(StatusCode::OK);
            describe(state, asking, &found, &mut reply)?;
            let bytes = found.bytes.unwrap_or_default();
            set(&mut reply, "content-length", &bytes.len().to_string());
            if asking.method == Method::GET {
                *reply.body_mut() = http_body_util::Full::new(bytes);
            }
            Ok(reply)
        }
        Method::DELETE if plain => {
            let action =
                if asking.version().is_some() { "s3:DeleteObjectVersion" } else { "s3:DeleteObject" };
            state.check_policy(bucket, &asking.asked(action, None, now_ms))?;
            let marker = state.delete(bucket, key, asking.version(), asking.bypasses())?;
            let mut reply = empty(StatusCode::NO_CONTENT);
            if let Some(id) = marker {
                set(&mut reply, "x-amz-delete-marker", "true");
                set(&mut reply, "x-amz-version-id", &id);
            }
            Ok(reply)
        }
        _ => refuse(501, "NotImplemented", format!("{} of an object with {names:?}", asking.method)),
    }
}

fn put(state: &mut State, asking: &Asking, now_ms: i64) -> Result<Reply, Refusal> {
    let retention = Retention::new(
        asking.header("x-amz-object-lock-mode"),
        asking.header("x-amz-object-lock-retain-until-date"),
        now_ms,
    )?;
    if asking.header("if-none-match").is_some_and(|value| value != "*") {
        return refuse(501, "NotImplemented", "If-None-Match other than *");
    }
    state.check_policy(&asking.bucket, &asking.asked("s3:PutObject", retention.as_ref(), now_ms))?;
    let meta = asking.headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix("x-amz-meta-")?;
        Some((name.to_owned(), value.to_str().ok()?.to_owned()))
    });
    let new = NewVersion {
        bytes: asking.body.clone(),
        checksum: asking.header("x-amz-checksum-sha256").map(str::to_owned),
        meta: meta.collect(),
        content_type: asking.header("content-type").map(str::to_owned),
        retention,
        if_none_match: asking.header("if-none-match").map(str::to_owned),
        if_match: asking.header("if-match").map(str::to_owned),
    };
    let version = state.put(&asking.bucket, &asking.key, new)?;
    let mut reply = empty(StatusCode::OK);
    set(&mut reply, "etag", &version.etag);
    if state.bucket(&asking.bucket)?.versioned {
        set(&mut reply, "x-amz-version-id", &version.id);
    }
    if let Some(checksum) = &version.checksum {
        set(&mut reply, "x-amz-checksum-sha256", checksum);
    }
    Ok(reply)
}

fn describe(state: &mut State, asking: &Asking, version: &Version, reply: &mut Reply) -> Result<(), Refusal> {
    set(reply, "etag", &version.etag);
    set(reply, "last-modified", &time::http(version.modified_ms));
    set(reply, "content-type", version.content_type.as_deref().unwrap_or("binary/octet-stream"));
    if state.bucket(&asking.bucket)?.versioned {
        set(reply, "x-amz-version-id", &version.id);
    }
    if let Some(Retention { mode, until_ms }) = &version.retention {
        set(reply, "x-amz-object-lock-mode", mode);
        set(reply, "x-amz-object-lock-retain-until-date", &time::iso(*until_ms));
    }
    if let (Some("ENABLED"), Some(checksum)) = (asking.header("x-amz-checksum-mode"), &version.checksum) {
        set(reply, "x-amz-checksum-sha256", checksum);
        set(reply, "x-amz-checksum-type", "FULL_OBJECT");
    }
    for (name, value) in &version.meta {
        let name = hyper::header::HeaderName::from_bytes(format!("x-amz-meta-{name}").as_bytes());
        if let (Ok(name), Ok(value)) = (name, hyper::header::HeaderValue::from_str(value)) {
            reply.headers_mut().insert(name, value);
        }
    }
    Ok(())
}

fn on_bucket(state: &mut State, asking: &Asking, names: &[&str]) -> Result<Reply, Refusal> {
    let name = &asking.bucket;
    let has = |param: &str| names.contains(&param);
    let now_ms = state.now_ms();
    match asking.method {
        Method::PUT if names.is_empty() => {
            let lockable = asking.header("x-amz-bucket-object-lock-enabled") == Some("true");
            if !state.create_bucket(name, lockable) {
                return refuse(409, "BucketAlreadyOwnedByYou", "you have this bucket already");
            }
            Ok(empty(StatusCode::OK))
        }
        Method::HEAD if names.is_empty() => state.bucket(name).map(|_| empty(StatusCode::OK)),
        Method::PUT if has("versioning") => {
            let status = element(asking.text(), "Status").unwrap_or_default().to_owned();
            let bucket = state.bucket(name)?;
            if bucket.lockable && status != "Enabled" {
                let rule = "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.";
                return refuse(409, "InvalidBucketState", rule);
            }
            match status.as_str() {
                "Enabled" => bucket.versioned = true,
                _ => return refuse(501, "NotImplemented", "suspended versioning"),
            }
            Ok(empty(StatusCode::OK))
        }
        Method::GET if has("versioning") => {
            let status = if state.bucket(name)?.versioned { "<Status>Enabled</Status>" } else { "" };
            Ok(xml(format!("<VersioningConfiguration>{status}</VersioningConfiguration>")))
        }
        Method::PUT if has("object-lock") => {
            let text = asking.text().to_owned();
            let bucket = state.bucket(name)?;
            if !bucket.versioned {
                return refuse(
                    409,
                    "InvalidBucketState",
                    "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration",
                );
            }
            bucket.lockable = true;
            bucket.default_retention = match (element(&text, "Mode"), element(&text, "Days")) {
                (Some(mode), Some(days)) => days.parse().ok().map(|days| (mode.to_owned(), days)),
                _ => None,
            };
            Ok(empty(StatusCode::OK))
        }
        Method::GET if has("object-lock") => {
            let bucket = state.bucket(name)?;
            if !bucket.lockable {
                return refuse(
                    404,
                    "ObjectLockConfigurationNotFoundError",
                    "Object Lock configuration does not exist for this bucket",
                );
            }
            let rule = bucket.default_retention.as_ref().map_or_else(String::new, |(mode, days)| {
                format!(
                    "<Rule><DefaultRetention><Mode>{mode}</Mode><Days>{days}</Days></DefaultRetention></Rule>"
                )
            });
            Ok(xml(format!(
                "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}</ObjectLockConfiguration>"
            )))
        }
        Method::PUT if has("policy") => {
            state.check_policy(name, &asking.asked("s3:PutBucketPolicy", None, now_ms))?;
            state.set_policy(name, asking.text())?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        Method::GET if has("policy") => match &state.bucket(name)?.policy {
            Some((text, _)) => {
                let mut reply = empty(StatusCode::OK);
                *reply.body_mut() = http_body_util::Full::new(Bytes::from(text.clone()));
                Ok(reply)
            }
            None => refuse(404, "NoSuchBucketPolicy", "The bucket policy does not exist"),
        },
        Method::GET if has("list-type") => list(state, asking),
        Method::GET if has("versions") => list_versions(state, asking),
        _ => refuse(501, "NotImplemented", format!("{} of a bucket with {names:?}", asking.method)),
    }
}

fn page_size(asking: &Asking) -> usize {
    asking.param("max-keys").and_then(|text| text.parse::<usize>().ok()).unwrap_or(1_000).min(1_000)
}

fn unsupported(asking: &Asking) -> Result<(), Refusal> {
    let other = ["delimiter", "fetch-owner"];
    match other.into_iter().find(|name| asking.param(name).is_some()) {
        Some(name) => refuse(501, "NotImplemented", format!("listing with {name}")),
        None => Ok(()),
    }
}

/// What stays as it is in keys of a listing with `encoding-type=url`.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/').remove(b'*').remove(b' ');

fn list(state: &mut State, asking: &Asking) -> Result<Reply, Refusal> {
    unsupported(asking)?;
    let is_encoded = match asking.param("encoding-type") {
        None => false,
        Some("url") => true,
        Some(_) => return refuse(400, "InvalidArgument", "Invalid Encoding Method specified in Request"),
    };
    // Blanks become plus signs, as in forms.
    let shown = |key: &str| match is_encoded {
        true => utf8_percent_encode(key, PLAIN).to_string().replace(' ', "+"),
        false => escape(key),
    };
    let prefix = asking.param("prefix").unwrap_or_default();
    let after = asking.param("continuation-token").or(asking.param("start-after")).unwrap_or_default();
    let limit = page_size(asking);
    let bucket = state.bucket(&asking.bucket)?;
    // From the first key that may be meant, so that a listing costs what it answers and not what the bucket holds.
    let from = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
    let mut found = bucket
        .objects
        .range::<str, _>((from, Bound::Unbounded))
        .take_while(|(key, _)| key.starts_with(prefix))
        .filter(|(_, versions)| versions.last().is_some_and(|version| version.bytes.is_some()));
    let mut rows = String::new();
    let mut last = None;
    for (key, versions) in found.by_ref().take(limit) {
        let Some(version) = versions.last() else { continue };
        let size = version.bytes.as_ref().map_or(0, Bytes::len);
        rows.push_str(&format!(
            "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>",
            shown(key),
            time::iso(version.modified_ms),
            escape(&version.etag)
        ));
        last = Some(key.clone());
    }
    let more = limit > 0 && found.next().is_some();
    let token = last.filter(|_| more).map_or_else(String::new, |key| {
        format!("<NextContinuationToken>{}</NextContinuationToken>", escape(&key))
    });
    let encoding = if is_encoded { "<EncodingType>url</EncodingType>" } else { "" };
    Ok(xml(format!(
        "<ListBucketResult><Name>{}</Name><IsTruncated>{more}</IsTruncated>{encoding}{token}{rows}</ListBucketResult>",
        escape(&asking.bucket)
    )))
}

fn list_versions(state: &mut State, asking: &Asking) -> Result<Reply, Refusal> {
    unsupported(asking)?;
    if asking.param("encoding-type").is_some() {
        return refuse(501, "NotImplemented", "listing versions with encoding-type");
    }
    let prefix = asking.param("prefix").unwrap_or_default();
    let after = (asking.param("key-marker").unwrap_or_default(), asking.param("version-id-marker"));
    let limit = page_size(asking);
    let bucket = state.bucket(&asking.bucket)?;
    // Keys in order, in each the newest version first.
    let all = bucket.objects.iter().filter(|(key, _)| key.starts_with(prefix)).flat_map(|(key, versions)| {
        let newest = versions.len().saturating_sub(1);
        versions.iter().enumerate().rev().map(move |(index, version)| (key, version, index == newest))
    });
    let mut passed_marker = false;
    let mut rest = all.filter(|(key, version, _)| match after {
        (marker, _) if key.as_str() > marker => true,
        (marker, Some(id)) if key.as_str() == marker => {
            let take = passed_marker;
            passed_marker |= version.id == id;
            take
        }
        _ => false,
    });
    let mut rows = String::new();
    let mut last = None;
    for (key, version, newest) in rest.by_ref().take(limit) {
        let head = format!(
            "<Key>{}</Key><VersionId>{}</VersionId><IsLatest>{newest}</IsLatest><LastModified>{}</LastModified>",
            escape(key),
            version.id,
            time::iso(version.modified_ms)
        );
        match &version.bytes {
            Some(bytes) => rows.push_str(&format!(
                "<Version>{head}<ETag>{}</ETag><Size>{}</Size><StorageClass>STANDARD</StorageClass></Version>",
                escape(&version.etag),
                bytes.len()
            )),
            None => rows.push_str(&format!("<DeleteMarker>{head}</DeleteMarker>")),
        }
        last = Some((key.clone(), version.id.clone()));
    }
    let more = limit > 0 && rest.next().is_some();
    let markers = last.filter(|_| more).map_or_else(String::new, |(key, id)| {
        format!(
            "<NextKeyMarker>{}</NextKeyMarker><NextVersionIdMarker>{id}</NextVersionIdMarker>",
            escape(&key)
        )
    });
    Ok(xml(format!(
        "<ListVersionsResult><Name>{}</Name><IsTruncated>{more}</IsTruncated>{markers}{rows}</ListVersionsResult>",
        escape(&asking.bucket)
    )))
}
