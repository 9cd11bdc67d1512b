//! What a plugin asks for, what it gets, and who approved it.
//!
//! An author writes a [`Manifest`]; [`embed`] puts it into the component, so that it is part of the digest.
//! [`inspect`] reads it back, together with what the binary really imports, and [`reconcile`] holds the two against
//! each other. [`effective`] intersects the manifest with the [`ProjectGrant`] and the [`OperatorPolicy`] and names
//! every [`Cut`]. The result is a [`Grant`]: a plain list of rules with a fingerprint, checked in well under two
//! microseconds, that answers with a typed [`Denied`]. A person approves it; [`Lock`] remembers what was approved,
//! and [`widening`] says whether what would apply now is more than that.
//!
//! ```
//! use pangolin_plugin_authority::{Manifest, OperatorPolicy, PluginId, ProjectGrant, effective};
//!
//! let manifest = Manifest::from_toml(r#"
//!     [plugin]
//!     id = "acme/suite"
//!     kind = "block"
//!     contract = "^1.0"
//!     version = "0.1.0"
//!     [needs]
//!     exec = [{ program = "cargo", args = ["test", "**"], why = "runs the suite" }]
//! "#).unwrap();
//! let nothing_granted = ProjectGrant::absent("pangolin.toml");
//! let result = effective(&manifest, &nothing_granted, &OperatorPolicy::default());
//! assert_eq!(result.cuts.len(), 1);
//! assert!(result.grant.allows_exec("cargo", &["test"]).is_err());
//! ```
//!
//! Deliberately not here: fetching (`pangolin-plugin-source`), running (`pangolin-plugin-host`), the cache of
//! compiled code, prompts.

#[cfg(feature = "component")]
mod component;
mod contract;
mod effective;
mod finding;
mod grant;
mod id;
mod limits;
mod lock;
mod manifest;
mod policy;
#[cfg(feature = "component")]
mod reconcile;
mod regular;
mod request;
mod rules;
mod signature;

#[cfg(feature = "component")]
pub use component::{
    COMPONENT_BYTES_MAX, ComponentError, Import, Inspection, MANIFEST_BYTES_MAX, MANIFEST_SECTION, embed,
    extract, inspect,
};
pub use contract::{Contract, host_contract};
pub use effective::{Cut, CutBy, Diagnosis, Effective, ProjectGrant, diagnose, effective};
pub use finding::{Finding, Findings};
pub use grant::{Denied, Difference, Grant, NotApproved, widening};
pub use id::{Kind, PluginId, PluginIdError};
pub use limits::LimitSet;
pub use lock::{LOCK_FILE, Lock, LockError, LockedPlugin};
pub use manifest::{MANIFEST_FILE, MANIFEST_VERSION, Manifest, Need, Needs};
pub use policy::{
    Allow, COMPONENT_BYTES_CEILING, COMPONENT_BYTES_DEFAULT, OperatorPolicy, POLICY_ENV, POLICY_FILE,
    PolicyError, SignaturePolicy, TrustedKey,
};
#[cfg(feature = "component")]
pub use reconcile::{Mismatch, Reconciled, reconcile};
pub use regular::{read_regular, read_regular_text};
pub use request::{Request, SecretPlace};
pub use rules::{Capability, ExecRule, NetRule, PathRule, RuleSet, SecretRule};
pub use signature::{SIGNATURE_CONTEXT, SignatureError, Signatures, sign};
