//! Keys under which workers authenticate their results.

use hmac::{Hmac, KeyInit as _, Mac as _};
use pangolin_core::ids::DispatchId;
use sha2::Sha256;

/// What is authenticated with the seed, so that it serves no other end.
const PURPOSE: &[u8] = b"pangolin result key v1\0";

/// What the keys of a deployment's dispatches are derived from. Never printed.
#[derive(Clone)]
pub struct ResultKeys(Hmac<Sha256>);

impl std::fmt::Debug for ResultKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResultKeys(…)")
    }
}

impl ResultKeys {
    /// From the seed of the deployment's signing key, which every host of the deployment has and nobody else.
    #[must_use]
    pub fn of_deployment(seed: &[u8; 32]) -> Self {
        // A key below the block size is filled up with zeros (RFC 2104).
        let mut block = [0; 64];
        block[..32].copy_from_slice(seed);
        let mut mac = Hmac::new(&block.into());
        mac.update(PURPOSE);
        Self(mac)
    }

    /// 64 hex digits. A dispatch id is used for one dispatch only, ever.
    #[must_use]
    pub fn of(&self, dispatch: &DispatchId) -> String {
        let mut mac = self.0.clone();
        mac.update(dispatch.as_str().as_bytes());
        crate::keys::hex(&mac.finalize().into_bytes())
    }
}
