//! Why a plugin cannot be used or installed.

use std::path::PathBuf;

use pangolin_core::ids::Digest;
use pangolin_plugin_authority::{
    ComponentError, Kind, LockError, Mismatch, NotApproved, PluginId, PolicyError, SignatureError,
};
use pangolin_plugin_host::{Failure, PluginError};
use pangolin_plugin_source::SourceError;
use thiserror::Error;

use crate::config::ConfigError;

/// Why a plugin cannot be used or installed.
#[derive(Debug, Error)]
pub enum PluginsError {
    /// No plugin of this kind and id.
    #[error(
        "{kind} {id:?} does not exist; known are {known}; `pangolin plugin add <file, https or oci source>` installs one"
    )]
    Unknown {
        /// Kind.
        kind: Kind,
        /// The id.
        id: String,
        /// Known ids.
        known: String,
    },
    /// Locked as something else.
    #[error("plugin {id:?} is a {found}, a {wanted} is needed here")]
    WrongKind {
        /// The id.
        id: String,
        /// Kind in the lock.
        found: Kind,
        /// Kind that was asked for.
        wanted: Kind,
    },
    /// A file of a plugin cannot be read or written.
    #[error("cannot access plugin {id:?} at {path}")]
    Read {
        /// The id.
        id: String,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Locked, but this machine has no copy.
    #[error(
        "plugin {id:?} ({digest}) is in pangolin.lock but not on this machine; `pangolin plugin rebuild` fetches it from {source_text}"
    )]
    NotStored {
        /// The id.
        id: String,
        /// Its digest.
        digest: Digest,
        /// Its source.
        source_text: String,
    },
    /// The stored component is not the approved one.
    #[error(
        "integrity: plugin {id:?} has digest {found}, approved is {approved}; somebody changed {path}; remove that file and run `pangolin plugin rebuild`"
    )]
    Changed {
        /// The id.
        id: String,
        /// Digest of the file.
        found: Digest,
        /// Digest in the lock.
        approved: Digest,
        /// The file.
        path: String,
    },
    /// What the component says about itself is not what the lock says.
    #[error(
        "integrity: pangolin.lock says {locked}, the component says {found}; run `pangolin plugin add` again"
    )]
    Identity {
        /// Of the lock.
        locked: String,
        /// Of the manifest.
        found: String,
    },
    /// More than was approved.
    #[error(transparent)]
    NotApproved(#[from] NotApproved),
    /// Not a usable component.
    #[error("plugin {id:?} is refused")]
    Component {
        /// Id or source.
        id: String,
        /// Why.
        #[source]
        source: ComponentError,
    },
    /// Larger than the operator allows.
    #[error(
        "plugin {id:?} is refused: it has {size} bytes, the limit is {limit} ({file}); the operator can allow up to \
         component = \"64MiB\" in the policy"
    )]
    TooLarge {
        /// Id or source.
        id: String,
        /// Of the component.
        size: u64,
        /// Of the operator, or the default.
        limit: u64,
        /// The policy.
        file: String,
    },
    /// Manifest and binary do not fit.
    #[error("plugin {id:?} is refused: {}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Mismatch {
        /// The id.
        id: String,
        /// All of them.
        problems: Vec<Mismatch>,
    },
    /// Not signed as the operator wants.
    #[error("plugin {id:?} is refused")]
    Signature {
        /// The id.
        id: String,
        /// Why.
        #[source]
        source: SignatureError,
    },
    /// The operator does not let this id in.
    #[error("plugin {id} is not among the ids that {file} allows; ask the operator")]
    IdNotAllowed {
        /// The id.
        id: PluginId,
        /// The policy.
        file: String,
    },
    /// An id without owner belongs to what ships with Pangolin.
    #[error(
        "{id:?} has no owner; ids without one are for what ships with Pangolin; use <owner>/{id} in its manifest"
    )]
    ReservedId {
        /// The id.
        id: PluginId,
    },
    /// Nothing of this id in the lock.
    #[error("plugin {id:?} is not in pangolin.lock; `pangolin plugin list` shows what is")]
    NotLocked {
        /// The id.
        id: String,
    },
    /// `pangolin.toml` has a grant for the plugin already.
    #[error("{file} has a [plugins.\"{id}\"] table already; change its grant there")]
    GrantExists {
        /// The id.
        id: PluginId,
        /// The file.
        file: PathBuf,
    },
    /// The lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The operator's policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The configuration, read again.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The component does not load.
    #[error("plugin {id:?} cannot be loaded: {}", .error.failure)]
    Load {
        /// The id.
        id: String,
        /// Why. Not the source of this error: its text is said here.
        error: Box<PluginError>,
    },
    /// The plugin host does not start.
    #[error("the plugin host cannot start")]
    Host(#[source] Box<Failure>),
}
