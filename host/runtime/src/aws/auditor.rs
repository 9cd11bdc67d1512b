//! An auditor's own look at the anchor that a bundle names.

use std::sync::Arc;

use pangolin_anchor_s3::S3Anchor;
use pangolin_audit::{anchor::AnchorEvidence, bundle::Bundle, note::VerifierKey};
use pangolin_aws::Aws;
use pangolin_ports::{
    anchor::{AnchorError, check_note},
    memory::SystemClock,
};
use thiserror::Error;

/// Needed to make an anchor, and of no account for one who only reads.
const ANY_DAYS: u32 = 1;

/// Why there was no look.
#[derive(Debug, Error)]
pub enum LookError {
    /// Nothing of an open run is at an anchor.
    #[error("the run had not ended when the bundle was made, so nothing of it is at an anchor")]
    NotSealed,
    /// There is nothing to look at outside of the deployment.
    #[error("the bundle was anchored at {0:?}, which is no S3 bucket: there is nothing to look at")]
    NoBucket(String),
    /// The key in the bundle.
    #[error("the key in the bundle is malformed")]
    Key(#[source] pangolin_audit::note::NoteError),
    /// The anchor cannot be asked.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
}

/// Asks S3, with the asker's own rights, for the checkpoint of the log that the bundle has. The bundle decides the bucket and
/// where in it to look, and nothing else. Without `keys` the bundle's own is taken, as a verification without pinned keys
/// does. `None` when the bytes are not a bundle, which the verification says better.
///
/// # Errors
/// [`LookError`].
pub async fn look_at_anchor(
    aws: &Aws,
    bundle: &[u8],
    keys: &[VerifierKey],
) -> Result<Option<AnchorEvidence>, LookError> {
    let Ok(bundle) = Bundle::parse(bundle) else { return Ok(None) };
    let anchor = bundle.anchor.as_ref().ok_or(LookError::NotSealed)?;
    let no_bucket = || LookError::NoBucket(anchor.anchor_id.clone());
    let bucket = anchor.anchor_id.strip_prefix("s3:").ok_or_else(no_bucket)?;
    let key = anchor.evidence.as_ref().and_then(|seen| seen.locator.split_once(&format!("/{bucket}/")));
    let prefix = key.and_then(|(_, key)| key.rsplit_once("log/")).map_or("", |(prefix, _)| prefix);
    let own: VerifierKey = bundle.key.parse().map_err(LookError::Key)?;
    let keys = if keys.is_empty() { std::slice::from_ref(&own) } else { keys };
    let place = S3Anchor::new(aws, bucket, prefix, ANY_DAYS, Arc::new(SystemClock))?;
    Ok(Some(check_note(&place, &bundle.log.checkpoint, keys).await?))
}
