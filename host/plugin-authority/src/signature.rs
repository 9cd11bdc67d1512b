//! Detached signatures over a component's digest. They let a plugin be considered; they grant nothing.
//!
//! Format of `<name>.wasm.sig`: up to 16 lines `<key id> <base64 Ed25519 signature>`; empty lines and lines that
//! start with `#` do not count. The signed message is [`SIGNATURE_CONTEXT`] and the 64 hex digits of the
//! component's SHA-256.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use pangolin_core::ids::Digest;
use thiserror::Error;

use crate::policy::{SignaturePolicy, is_key_id};

/// Start of the signed message.
pub const SIGNATURE_CONTEXT: &str = "pangolin-plugin-signature-v1\n";

/// Largest signature file in bytes.
const FILE_BYTES_MAX: usize = 8 << 10;

/// Most signatures in one file.
const SIGNATURES_MAX: usize = 16;

/// Why a plugin's signature does not do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// The policy wants one and there is none.
    #[error(
        "the operator's policy wants a signature of {wanted}, and the plugin has none; put <name>.wasm.sig beside it or name it with --signature"
    )]
    Missing {
        /// Key ids.
        wanted: String,
    },
    /// The file is not a signature file.
    #[error("the signature file is malformed: {0}")]
    Malformed(String),
    /// Signed, but by nobody who counts.
    #[error("signed by {signers}, but the operator's policy wants {wanted}")]
    Untrusted {
        /// Key ids of the file.
        signers: String,
        /// Key ids of the policy.
        wanted: String,
    },
    /// A signature under a trusted key id does not verify: wrong key, other component, or forged.
    #[error("the signature of {key:?} does not fit component {digest}")]
    Bad {
        /// Key id.
        key: String,
        /// The component.
        digest: Digest,
    },
}

fn message(digest: &Digest) -> Vec<u8> {
    format!("{SIGNATURE_CONTEXT}{}", digest.hex()).into_bytes()
}

/// A parsed signature file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signatures(Vec<(String, Signature)>);

impl Signatures {
    /// Reads a signature file.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SignatureError> {
        let bad = |problem: String| SignatureError::Malformed(problem);
        if bytes.len() > FILE_BYTES_MAX {
            return Err(bad(format!("{} bytes, the limit is {FILE_BYTES_MAX}", bytes.len())));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| bad("not UTF-8 text".to_owned()))?;
        let mut found = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (id, value) = line
                .split_once(' ')
                .filter(|(id, _)| is_key_id(id))
                .ok_or_else(|| bad(format!("line {number} is not <key id> <base64>")))?;
            let signature = BASE64_STANDARD
                .decode(value.trim())
                .ok()
                .and_then(|bytes| Signature::from_slice(&bytes).ok());
            let signature =
                signature.ok_or_else(|| bad(format!("line {number} has no Ed25519 signature in base64")))?;
            if found.len() == SIGNATURES_MAX {
                return Err(bad(format!("more than {SIGNATURES_MAX} signatures")));
            }
            found.push((id.to_owned(), signature));
        }
        if found.is_empty() {
            return Err(bad("no signature in it".to_owned()));
        }
        Ok(Self(found))
    }

    /// Checks what the policy demands of `component`. Answers the key id that counted; `None` when the policy wants
    /// none.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn check(
        signatures: Option<&Self>,
        policy: &SignaturePolicy,
        component: &Digest,
    ) -> Result<Option<String>, SignatureError> {
        let SignaturePolicy::Keys(keys) = policy else { return Ok(None) };
        let wanted = || match keys.len() {
            0 => "no key at all (its list is empty)".to_owned(),
            _ => keys.iter().map(|key| key.id.as_str()).collect::<Vec<_>>().join(", "),
        };
        let Some(Self(signatures)) = signatures else {
            return Err(SignatureError::Missing { wanted: wanted() });
        };
        let message = message(component);
        let mut bad = None;
        for (id, signature) in signatures {
            for trusted in keys.iter().filter(|key| key.id == *id) {
                if trusted.key.verify_strict(&message, signature).is_ok() {
                    return Ok(Some(id.clone()));
                }
                bad = Some(SignatureError::Bad { key: id.clone(), digest: *component });
            }
        }
        Err(bad.unwrap_or_else(|| SignatureError::Untrusted {
            signers: signatures.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(", "),
            wanted: wanted(),
        }))
    }
}

/// A line for a signature file.
#[must_use]
pub fn sign(key_id: &str, key: &SigningKey, component: &Digest) -> String {
    format!("{key_id} {}\n", BASE64_STANDARD.encode(key.sign(&message(component)).to_bytes()))
}
