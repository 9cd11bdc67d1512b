//! Reading back, and judging what is there.

use aws_sdk_s3::{
    operation::{get_object::GetObjectOutput, list_object_versions::ListObjectVersionsOutput},
    primitives::DateTime,
};
use pangolin_audit::{
    checkpoint::Checkpoint,
    note::{NOTE_BYTES_MAX, VerifierKey},
};
use pangolin_aws::{CallError, Pauses};
use pangolin_ports::anchor::{AnchorError, AnchorEvidence, EVIDENCE_VERSION, Guarantee, Retention, Standing};

use crate::{S3Anchor, keys, repeats};

/// Enough to know that a key is contested.
const VERSIONS_MAX: usize = 2_000;

/// The versions of one key.
#[derive(Default)]
struct Versions {
    /// Id and modification time of those with content, newest first.
    content: Vec<(Option<String>, Option<DateTime>)>,
    markers: usize,
}

impl S3Anchor {
    pub(crate) async fn look_at(
        &self,
        origin: &str,
        size: u64,
        trusted: &[VerifierKey],
    ) -> Result<AnchorEvidence, AnchorError> {
        let key = keys::of_checkpoint(&self.prefix, origin, size);
        let checked_at_ms = self.clock.now_ms();
        let mut evidence = AnchorEvidence {
            schema_version: EVIDENCE_VERSION,
            anchor_id: self.id.clone(),
            guarantee: Guarantee::Detect,
            standing: Standing::Absent,
            origin: origin.to_owned(),
            size,
            locator: self.locator(&key),
            note: None,
            version: None,
            taken_at_ms: None,
            retention: None,
            checked_at_ms,
            findings: Vec::new(),
        };
        let versions = self.versions(&key).await?;
        let (mut contests, mut weaknesses) = (Vec::new(), Vec::new());
        if versions.markers > 0 {
            contests.push(format!("somebody deleted it: {} delete markers are on it", versions.markers));
        }
        if versions.content.len() > 1 {
            contests.push(format!("it has {} versions, one is right", versions.content.len()));
        }
        // The oldest is the one that nobody could remove.
        match versions.content.last() {
            None if versions.markers == 0 => return Ok(evidence),
            None => contests.push("no version with content is left".to_owned()),
            Some((id, modified)) => {
                evidence.version.clone_from(id);
                evidence.taken_at_ms = modified.as_ref().and_then(|at| at.to_millis().ok());
                if id.as_deref().is_none_or(|id| id == "null") {
                    weaknesses.push("the bucket keeps no versions".to_owned());
                }
                let found = self.version(&key, id.as_deref()).await?;
                judge_lock(&found, checked_at_ms, &mut evidence, &mut weaknesses);
                let note = self.text(&key, found).await?;
                if let Err(problem) = judge_note(&note, origin, size, trusted) {
                    contests.push(problem);
                }
                evidence.note = Some(note);
            }
        }
        evidence.standing = match (contests.is_empty(), weaknesses.is_empty()) {
            (false, _) => Standing::Contested,
            (true, false) => Standing::Weak,
            (true, true) => Standing::Held,
        };
        if evidence.standing == Standing::Held {
            evidence.guarantee = Guarantee::ExternalImmutable;
        }
        evidence.findings = contests;
        evidence.findings.append(&mut weaknesses);
        Ok(evidence)
    }

    async fn versions(&self, key: &str) -> Result<Versions, AnchorError> {
        let mut versions = Versions::default();
        let mut from = (None, None);
        loop {
            let page = self.versions_page(key, from).await?;
            for version in page.versions().iter().filter(|version| version.key() == Some(key)) {
                let id = version.version_id().map(str::to_owned);
                versions.content.push((id, version.last_modified().copied()));
            }
            versions.markers +=
                page.delete_markers().iter().filter(|marker| marker.key() == Some(key)).count();
            let seen = versions.content.len() + versions.markers;
            if page.is_truncated() != Some(true) || seen >= VERSIONS_MAX {
                return Ok(versions);
            }
            from =
                (page.next_key_marker().map(str::to_owned), page.next_version_id_marker().map(str::to_owned));
        }
    }

    async fn versions_page(
        &self,
        prefix: &str,
        from: (Option<String>, Option<String>),
    ) -> Result<ListObjectVersionsOutput, AnchorError> {
        let mut pauses = Pauses::default();
        loop {
            let (key_marker, version_marker) = from.clone();
            let request = self
                .client
                .list_object_versions()
                .bucket(&self.bucket)
                .prefix(prefix)
                .set_key_marker(key_marker)
                .set_version_id_marker(version_marker);
            match request.send().await.map_err(CallError::new) {
                Ok(page) => return Ok(page),
                Err(error) if repeats(&error) && pauses.next().await => {}
                Err(error) => return Err(self.failed("listing versions of", prefix, error)),
            }
        }
    }

    async fn version(&self, key: &str, id: Option<&str>) -> Result<GetObjectOutput, AnchorError> {
        let mut pauses = Pauses::default();
        loop {
            let request = self.client.get_object().bucket(&self.bucket).key(key);
            match request.set_version_id(id.map(str::to_owned)).send().await.map_err(CallError::new) {
                Ok(found) => return Ok(found),
                Err(error) if repeats(&error) && pauses.next().await => {}
                Err(error) => return Err(self.failed("reading", key, error)),
            }
        }
    }

    /// The note; what is too long for one is cut and will not be one.
    async fn text(&self, key: &str, found: GetObjectOutput) -> Result<String, AnchorError> {
        let mut body = found.body;
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| self.failed("reading", key, error))?);
            if bytes.len() > NOTE_BYTES_MAX {
                bytes.truncate(NOTE_BYTES_MAX + 1);
                break;
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) async fn list_sizes(
        &self,
        origin: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<u64>, AnchorError> {
        let prefix = keys::of_log(&self.prefix, origin);
        // Versions and not objects: one that somebody deleted is still a size that was published.
        let before = from.checked_sub(1).map(|size| keys::of_checkpoint(&self.prefix, origin, size));
        let mut from = (before, None);
        let mut sizes = Vec::new();
        while sizes.len() < limit {
            let page = self.versions_page(&prefix, from).await?;
            let content = page.versions().iter().filter_map(|version| version.key());
            let markers = page.delete_markers().iter().filter_map(|marker| marker.key());
            let names = content.chain(markers).filter_map(|key| key.strip_prefix(&prefix));
            sizes.extend(names.filter_map(keys::size_in));
            sizes.sort_unstable();
            sizes.dedup();
            if page.is_truncated() != Some(true) {
                break;
            }
            from =
                (page.next_key_marker().map(str::to_owned), page.next_version_id_marker().map(str::to_owned));
        }
        sizes.truncate(limit);
        Ok(sizes)
    }
}

fn judge_lock(
    found: &GetObjectOutput,
    checked_at_ms: i64,
    evidence: &mut AnchorEvidence,
    weaknesses: &mut Vec<String>,
) {
    let mode = found.object_lock_mode().map(|mode| mode.as_str().to_owned());
    let until_ms = found.object_lock_retain_until_date().and_then(|until| until.to_millis().ok());
    let (Some(mode), Some(until_ms)) = (mode, until_ms) else {
        weaknesses
            .push("no lock is to be seen: there is none, or s3:GetObjectRetention is missing".to_owned());
        return;
    };
    if mode != "COMPLIANCE" {
        weaknesses.push(format!("the lock's mode is {mode}: some may remove it; expected COMPLIANCE"));
    }
    if until_ms <= checked_at_ms {
        weaknesses.push("the lock has run out".to_owned());
    }
    evidence.retention = Some(Retention { mode, until_ms });
}

fn judge_note(note: &str, origin: &str, size: u64, trusted: &[VerifierKey]) -> Result<(), String> {
    let checkpoint = Checkpoint::open(note, origin, trusted).map_err(|error| error.to_string())?;
    if checkpoint.size != size {
        return Err(format!("it is a checkpoint of {} leaves under the key of {size}", checkpoint.size));
    }
    Ok(())
}
