//! C2SP signed-note with Ed25519 (signature type 0x01), and verifier keys (vkey).
//!
//! Source of the format: c2sp.org/signed-note. Signatures are checked with the strict rule (small-order keys and
//! points, non-canonical encodings are refused), so that every verifier agrees about every signature. Keys of other
//! signature types are not supported; their lines are ignored as lines of unknown keys.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _};
use pangolin_core::ids::Digest;
use thiserror::Error;

/// Most signature lines a note may have (the format asks for at least 16).
pub const SIGNATURES_MAX: usize = 64;

/// Longest note in bytes.
pub const NOTE_BYTES_MAX: usize = 1 << 20;

const TYPE_ED25519: u8 = 1;

/// Why a note or a key is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoteError {
    /// Key names are not empty and hold no space and no plus.
    #[error(
        "{0:?} is not a key name: it must not be empty or contain white space, control characters or '+'"
    )]
    KeyName(String),
    /// Not `name+keyid+base64`. The text itself is never part of the error: people hand over private keys by mistake.
    #[error("verifier key{} is malformed: {problem}", label(name))]
    VerifierKey {
        /// The name, when the text has the three parts of a key and the middle one is a key id.
        name: Option<String>,
        /// What is wrong.
        problem: &'static str,
    },
    /// The text cannot be signed.
    #[error("note text {0}")]
    Text(&'static str),
    /// Not a signed note.
    #[error("signed note is malformed: {0}")]
    Malformed(String),
    /// A known key's signature is wrong.
    #[error("signature of key {0:?} does not match the text")]
    BadSignature(String),
    /// No signature of a known key.
    #[error("no signature of a known key; the note is signed by {0}")]
    NoKnownKey(String),
}

fn label(name: &Option<String>) -> String {
    name.as_ref().map_or_else(String::new, |name| format!(" {name:?}"))
}

fn check_name(name: &str) -> Result<(), NoteError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.contains(bad) {
        return Err(NoteError::KeyName(name.to_owned()));
    }
    Ok(())
}

fn key_id(name: &str, public: &[u8; 32]) -> [u8; 4] {
    let mut input = name.as_bytes().to_vec();
    input.extend_from_slice(&[b'\n', TYPE_ED25519]);
    input.extend_from_slice(public);
    let digest = Digest::of(&input);
    let [a, b, c, d, ..] = *digest.as_bytes();
    [a, b, c, d]
}

/// A key that signs notes. `Debug` shows the public half only; the secret is wiped from memory when dropped.
#[derive(Clone)]
pub struct SigningKey {
    name: String,
    key: ed25519_dalek::SigningKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.verifier_key().to_string()).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A key from its 32 secret bytes (the caller's randomness). `name` is the log's origin.
    ///
    /// # Errors
    /// [`NoteError::KeyName`].
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        check_name(name)?;
        Ok(Self { name: name.to_owned(), key: ed25519_dalek::SigningKey::from_bytes(seed) })
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public half.
    #[must_use]
    pub fn verifier_key(&self) -> VerifierKey {
        VerifierKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// A note with this key's signature. `text` ends with a newline.
    ///
    /// # Errors
    /// [`NoteError::Text`] when the text has no final newline or holds control characters.
    pub fn sign(&self, text: &str) -> Result<Note, NoteError> {
        check_text(text)?;
        Ok(Note { text: text.to_owned(), signatures: vec![self.signature(text)] })
    }

    fn signature(&self, text: &str) -> NoteSignature {
        let id = key_id(&self.name, self.key.verifying_key().as_bytes());
        let bytes = self.key.sign(text.as_bytes()).to_bytes().to_vec();
        NoteSignature { name: self.name.clone(), key_id: id, bytes }
    }
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if !text.ends_with('\n') {
        return Err(NoteError::Text("does not end with a newline"));
    }
    if text.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
        return Err(NoteError::Text("holds a control character"));
    }
    Ok(())
}

/// A public key with its name. Text form (vkey): `name+keyid+base64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: ed25519_dalek::VerifyingKey,
}

impl VerifierKey {
    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The 32 bytes of the public key.
    #[must_use]
    pub fn public_bytes(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// First four bytes of the hash over name, type and key.
    #[must_use]
    pub fn key_id(&self) -> [u8; 4] {
        key_id(&self.name, self.key.as_bytes())
    }

    /// Checks a signature over a message by the strict rule.
    #[must_use]
    pub fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.key_id();
        let mut material = vec![TYPE_ED25519];
        material.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{a:02x}{b:02x}{c:02x}{d:02x}+{}", self.name, STANDARD.encode(material))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let unnamed = |problem| NoteError::VerifierKey { name: None, problem };
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(material)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(unnamed("expected name+keyid+base64"));
        };
        // Base64 holds plus signs too, so the first part is a name only in front of a key id.
        if id.len() != 8 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(unnamed("the key id in the middle is not 8 hex digits"));
        }
        check_name(name).map_err(|_| unnamed("the name in front is empty or holds white space"))?;
        let bad = |problem| NoteError::VerifierKey { name: Some(name.to_owned()), problem };
        let material = STANDARD.decode(material).map_err(|_| bad("the last part is not base64"))?;
        let public = match material.split_first() {
            Some((&TYPE_ED25519, public)) => public,
            _ => return Err(bad("not an Ed25519 key (type 1)")),
        };
        let public: &[u8; 32] = public.try_into().map_err(|_| bad("the key is not 32 bytes long"))?;
        let key =
            ed25519_dalek::VerifyingKey::from_bytes(public).map_err(|_| bad("not a point on the curve"))?;
        if key.is_weak() {
            return Err(bad("the key is of small order and would accept forged signatures"));
        }
        let key = Self { name: name.to_owned(), key };
        // Compares the key id too, and the base64 and hex forms.
        if key.to_string() != text {
            return Err(bad("the key id does not belong to the name and key"));
        }
        Ok(key)
    }
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// Name of the key.
    pub name: String,
    /// Id of the key.
    pub key_id: [u8; 4],
    /// The signature itself, 64 bytes for Ed25519.
    pub bytes: Vec<u8>,
}

/// A text with signatures. Use the text only after [`Note::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// Reads a signed note. Nothing is verified yet.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        let bad = |problem: &str| NoteError::Malformed(problem.to_owned());
        if note.len() > NOTE_BYTES_MAX {
            return Err(bad("longer than 1 MiB"));
        }
        if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(bad("holds a control character"));
        }
        let split = note.rfind("\n\n").ok_or_else(|| bad("no blank line before the signatures"))?;
        let (text, lines) = (&note[..=split], &note[split + 2..]);
        let lines = lines.strip_suffix('\n').ok_or_else(|| bad("does not end with a newline"))?;
        let signatures: Vec<NoteSignature> = lines.split('\n').map(parse_line).collect::<Result<_, _>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(bad("more than 64 signatures"));
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The text, with its final newline. Meaningless before [`Note::verify`].
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds another key's signature (rotation, witness).
    pub fn add_signature(&mut self, key: &SigningKey) {
        self.signatures.push(key.signature(&self.text));
    }

    /// Checks the signatures of `keys`; lines of other keys are ignored. Returns the keys that signed.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] when one of `keys` has a line that does not verify, [`NoteError::NoKnownKey`]
    /// when none has a line.
    pub fn verify<'k>(&self, keys: &'k [VerifierKey]) -> Result<Vec<&'k VerifierKey>, NoteError> {
        let mut signed = Vec::new();
        for signature in &self.signatures {
            let known = |key: &&VerifierKey| key.name == signature.name && key.key_id() == signature.key_id;
            let mut candidates = keys.iter().filter(known).peekable();
            if candidates.peek().is_none() {
                continue;
            }
            match candidates.find(|key| key.accepts(self.text.as_bytes(), &signature.bytes)) {
                Some(key) => signed.push(key),
                None => return Err(NoteError::BadSignature(signature.name.clone())),
            }
        }
        if signed.is_empty() {
            let names: Vec<&str> = self.signatures.iter().map(|signature| signature.name.as_str()).collect();
            return Err(NoteError::NoKnownKey(names.join(", ")));
        }
        Ok(signed)
    }
}

fn parse_line(line: &str) -> Result<NoteSignature, NoteError> {
    let bad = || NoteError::Malformed(format!("signature line {line:?} is not \"— name base64\""));
    let (name, encoded) = line.strip_prefix("— ").and_then(|rest| rest.split_once(' ')).ok_or_else(bad)?;
    check_name(name)?;
    let bytes = STANDARD.decode(encoded).map_err(|_| bad())?;
    let (key_id, signature) = bytes.split_first_chunk::<4>().ok_or_else(bad)?;
    if signature.is_empty() {
        return Err(bad());
    }
    Ok(NoteSignature { name: name.to_owned(), key_id: *key_id, bytes: signature.to_vec() })
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for NoteSignature { name, key_id, bytes } in &self.signatures {
            let mut all = key_id.to_vec();
            all.extend_from_slice(bytes);
            writeln!(f, "— {name} {}", STANDARD.encode(all))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_no_key_is_not_repeated() {
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let good = SigningKey::from_seed("example.com/log", &[7; 32]).unwrap().verifier_key().to_string();
        let material = good.rsplit_once('+').map_or("", |(_, material)| material);
        for text in [
            seed.to_owned(),
            format!("{{\"name\":\"n\",\"seed\":\"{seed}\"}}"),
            format!("{seed}+{seed}+{seed}"),
            format!("a b+00000000+{seed}"),
            format!("example.com/log+00000000+{seed}"),
            format!("PRIVATE+KEY+example.com/log+00000000+{seed}"),
            format!("example.com/log+00000000+{material}"),
        ] {
            let error = text.parse::<VerifierKey>().unwrap_err();
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!shown.contains(&seed[..8]) && !shown.contains(material), "{shown}");
            }
        }
        let error = format!("example.com/log+00000000+{material}").parse::<VerifierKey>().unwrap_err();
        assert!(error.to_string().contains("\"example.com/log\""), "{error}");
    }
}
