//! What is stored.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    lock::{self, Retention},
    policy::{Asked, Policy},
    reply::{Refusal, refuse},
    time,
};

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) buckets: BTreeMap<String, Bucket>,
    pub(crate) offset_ms: i64,
    /// Who wants to know about created objects.
    pub(crate) watchers: Vec<UnboundedSender<Created>>,
    /// Makes version ids.
    counter: u64,
}

/// One bucket.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    pub(crate) versioned: bool,
    pub(crate) lockable: bool,
    /// Mode and days.
    pub(crate) default_retention: Option<(String, i64)>,
    pub(crate) policy: Option<(String, Policy)>,
    /// Versions, oldest first. Never empty.
    pub(crate) objects: BTreeMap<String, Vec<Version>>,
}

/// A version of an object.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    /// `null` in a bucket without versions.
    pub(crate) id: String,
    /// `None`: a delete marker.
    pub(crate) bytes: Option<Bytes>,
    pub(crate) etag: String,
    pub(crate) checksum: Option<String>,
    pub(crate) meta: Vec<(String, String)>,
    pub(crate) content_type: Option<String>,
    pub(crate) retention: Option<Retention>,
    pub(crate) modified_ms: i64,
}

/// An object that a client created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: usize,
    /// Its tag, in quotes.
    pub etag: String,
    /// When, as in RFC 3339.
    pub time: String,
}

/// A version, for tests to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersion {
    /// Its id.
    pub id: String,
    /// Its bytes; `None` for a delete marker.
    pub bytes: Option<Vec<u8>>,
    /// Lock mode and the last moment it holds (ms).
    pub lock: Option<(String, i64)>,
}

/// A request to store something.
#[derive(Debug)]
pub(crate) struct NewVersion {
    pub(crate) bytes: Bytes,
    pub(crate) checksum: Option<String>,
    pub(crate) meta: Vec<(String, String)>,
    pub(crate) content_type: Option<String>,
    pub(crate) retention: Option<Retention>,
    pub(crate) if_none_match: Option<String>,
    pub(crate) if_match: Option<String>,
}

impl State {
    pub(crate) fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX).saturating_add(self.offset_ms)
    }

    pub(crate) fn create_bucket(&mut self, name: &str, lockable: bool) -> bool {
        if self.buckets.contains_key(name) {
            return false;
        }
        let bucket = Bucket { versioned: lockable, lockable, ..Bucket::default() };
        self.buckets.insert(name.to_owned(), bucket);
        true
    }

    pub(crate) fn bucket(&mut self, name: &str) -> Result<&mut Bucket, Refusal> {
        match self.buckets.get_mut(name) {
            Some(bucket) => Ok(bucket),
            None => refuse(404, "NoSuchBucket", "The specified bucket does not exist"),
        }
    }

    pub(crate) fn set_policy(&mut self, bucket: &str, text: &str) -> Result<(), Refusal> {
        let policy = match Policy::parse(text) {
            Ok(policy) => policy,
            Err(problem) => return refuse(501, "NotImplemented", problem),
        };
        self.bucket(bucket)?.policy = Some((text.to_owned(), policy));
        Ok(())
    }

    /// Refuses what the bucket's policy denies.
    pub(crate) fn check_policy(&mut self, bucket: &str, asked: &Asked<'_>) -> Result<(), Refusal> {
        match &self.bucket(bucket)?.policy {
            Some((_, policy)) => match policy.denies(asked) {
                Some(sid) => refuse(403, "AccessDenied", format!("denied by statement {sid}")),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    fn next_id(&mut self, versioned: bool) -> String {
        self.counter += 1;
        if versioned { format!("v{:08}", self.counter) } else { "null".to_owned() }
    }

    pub(crate) fn put(&mut self, bucket: &str, key: &str, new: NewVersion) -> Result<Version, Refusal> {
        let now_ms = self.now_ms();
        let (versioned, lockable, default) = {
            let bucket = self.bucket(bucket)?;
            (bucket.versioned, bucket.lockable, bucket.default_retention.clone())
        };
        if new.retention.is_some() && !lockable {
            return refuse(400, "InvalidRequest", "Bucket is missing Object Lock Configuration");
        }
        if (new.retention.is_some() || default.is_some()) && new.checksum.is_none() {
            let rule = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters";
            return refuse(400, "InvalidRequest", rule);
        }
        let id = self.next_id(versioned);
        let objects = &mut self.bucket(bucket)?.objects;
        let newest =
            objects.get(key).and_then(|versions| versions.last()).filter(|version| version.bytes.is_some());
        if new.if_none_match.is_some() && newest.is_some() {
            let rule = "At least one of the pre-conditions you specified did not hold";
            return refuse(412, "PreconditionFailed", rule);
        }
        if let Some(wanted) = &new.if_match {
            match newest {
                None => return refuse(404, "NoSuchKey", "The specified key does not exist."),
                Some(newest) if newest.etag != *wanted => {
                    let rule = "At least one of the pre-conditions you specified did not hold";
                    return refuse(412, "PreconditionFailed", rule);
                }
                Some(_) => {}
            }
        }
        let retention = new
            .retention
            .or_else(|| default.map(|(mode, days)| Retention { mode, until_ms: now_ms + days * 86_400_000 }));
        let version = Version {
            id,
            etag: etag(&new.bytes),
            bytes: Some(new.bytes),
            checksum: new.checksum,
            meta: new.meta,
            content_type: new.content_type,
            retention,
            // Whole seconds, as the real one.
            modified_ms: now_ms / 1_000 * 1_000,
        };
        let versions = objects.entry(key.to_owned()).or_default();
        if !versioned {
            versions.clear();
        }
        versions.push(version.clone());
        let created = Created {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            size: version.bytes.as_ref().map_or(0, Bytes::len),
            etag: version.etag.clone(),
            time: time::iso(now_ms),
        };
        self.watchers.retain(|watcher| watcher.send(created.clone()).is_ok());
        Ok(version)
    }

    /// Finds a version: the given one or the newest.
    pub(crate) fn find(&mut self, bucket: &str, key: &str, id: Option<&str>) -> Result<Version, Refusal> {
        let missing = || refuse(404, "NoSuchKey", "The specified key does not exist.");
        let Some(versions) = self.bucket(bucket)?.objects.get(key) else {
            return if id.is_some() { refuse(404, "NoSuchVersion", "no such version") } else { missing() };
        };
        let Some(id) = id else {
            return match versions.last() {
                Some(version) if version.bytes.is_some() => Ok(version.clone()),
                _ => missing().map_err(|refusal: Refusal| Refusal { marker: true, ..refusal }),
            };
        };
        match versions.iter().find(|version| version.id == id) {
            None => refuse(404, "NoSuchVersion", "The specified version does not exist."),
            Some(version) if version.bytes.is_none() => {
                refuse(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
                    .map_err(|refusal: Refusal| Refusal { marker: true, ..refusal })
            }
            Some(version) => Ok(version.clone()),
        }
    }

    /// Deletes a version, or puts a marker on top. Answers the id of a marker that was made.
    pub(crate) fn delete(
        &mut self,
        bucket: &str,
        key: &str,
        id: Option<&str>,
        bypass: bool,
    ) -> Result<Option<String>, Refusal> {
        let now_ms = self.now_ms();
        let versioned = self.bucket(bucket)?.versioned;
        if let Some(id) = id {
            let objects = &mut self.bucket(bucket)?.objects;
            let Some(versions) = objects.get_mut(key) else { return Ok(None) };
            if let Some(version) = versions.iter().find(|version| version.id == id) {
                lock::may_delete(version.retention.as_ref(), bypass, now_ms)?;
            }
            versions.retain(|version| version.id != id);
            if versions.is_empty() {
                objects.remove(key);
            }
            return Ok(None);
        }
        if !versioned {
            self.bucket(bucket)?.objects.remove(key);
            return Ok(None);
        }
        let marker = self.marker(now_ms);
        let id = marker.id.clone();
        self.bucket(bucket)?.objects.entry(key.to_owned()).or_default().push(marker);
        Ok(Some(id))
    }

    fn marker(&mut self, now_ms: i64) -> Version {
        Version {
            id: self.next_id(true),
            bytes: None,
            etag: String::new(),
            checksum: None,
            meta: Vec::new(),
            content_type: None,
            retention: None,
            modified_ms: now_ms / 1_000 * 1_000,
        }
    }

    pub(crate) fn set_retention(
        &mut self,
        bucket: &str,
        key: &str,
        id: Option<&str>,
        new: Option<Retention>,
        bypass: bool,
    ) -> Result<(), Refusal> {
        let now_ms = self.now_ms();
        let found = self.find(bucket, key, id)?;
        if !self.bucket(bucket)?.lockable {
            return refuse(400, "InvalidRequest", "Bucket is missing Object Lock Configuration");
        }
        lock::may_replace(found.retention.as_ref(), new.as_ref(), bypass, now_ms)?;
        let versions = self.bucket(bucket)?.objects.get_mut(key);
        if let Some(version) = versions.and_then(|all| all.iter_mut().find(|version| version.id == found.id))
        {
            version.retention = new;
        }
        Ok(())
    }

    pub(crate) fn plant(&mut self, bucket: &str, key: &str, bytes: &[u8]) {
        let Ok(place) = self.bucket(bucket) else { return };
        if let Some(version) = place.objects.get_mut(key).and_then(|versions| versions.last_mut()) {
            version.bytes = Some(Bytes::copy_from_slice(bytes));
            version.etag = etag(bytes);
            version.checksum = None;
            return;
        }
        self.plant_version(bucket, key, Some(bytes));
    }

    pub(crate) fn plant_version(&mut self, bucket: &str, key: &str, bytes: Option<&[u8]>) {
        let now_ms = self.now_ms();
        let mut version = self.marker(now_ms);
        if let Some(bytes) = bytes {
            version.etag = etag(bytes);
            version.bytes = Some(Bytes::copy_from_slice(bytes));
        }
        if let Ok(place) = self.bucket(bucket) {
            place.objects.entry(key.to_owned()).or_default().push(version);
        }
    }

    pub(crate) fn keys(&mut self, bucket: &str) -> Vec<String> {
        self.bucket(bucket).map(|bucket| bucket.objects.keys().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn versions(&mut self, bucket: &str, key: &str) -> Vec<StoredVersion> {
        let Ok(bucket) = self.bucket(bucket) else { return Vec::new() };
        let versions = bucket.objects.get(key).map(Vec::as_slice).unwrap_or_default();
        versions
            .iter()
            .map(|version| StoredVersion {
                id: version.id.clone(),
                bytes: version.bytes.as_ref().map(|bytes| bytes.to_vec()),
                lock: version.retention.as_ref().map(|lock| (lock.mode.clone(), lock.until_ms)),
            })
            .collect()
    }
}

/// An opaque tag of the content. (The real one is often MD5; nobody may rely on it.)
pub(crate) fn etag(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}
