//! Names that are derived from a dispatch.

use pangolin_core::ids::{Digest, DispatchId};

use crate::config::FargateConfig;

/// Names of one deployment.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    stack: String,
    prefix: String,
}

impl Keys {
    pub(crate) fn new(config: &FargateConfig) -> Self {
        Self { stack: config.stack.clone(), prefix: config.prefix.clone() }
    }

    /// Before the records of all dispatches.
    pub(crate) fn all(&self) -> String {
        format!("{}dispatches/", self.prefix)
    }

    /// Before the records of one dispatch.
    pub(crate) fn of(&self, dispatch: &DispatchId) -> String {
        format!("{}dispatches/{dispatch}/", self.prefix)
    }

    /// One record.
    pub(crate) fn record(&self, dispatch: &DispatchId, name: &str) -> String {
        format!("{}{name}", self.of(dispatch))
    }

    /// Before the start documents of all dispatches.
    pub(crate) fn starts(&self) -> String {
        format!("{}starts/", self.prefix)
    }

    /// The start document. Not beside the records: a rule of the bucket deletes everything here after a day.
    pub(crate) fn start(&self, dispatch: &DispatchId) -> String {
        format!("{}starts/{dispatch}.json", self.prefix)
    }

    fn hash(&self, dispatch: &DispatchId) -> String {
        Digest::of(format!("{}\0{dispatch}", self.stack).as_bytes()).hex()
    }

    /// `clientToken`: at most 64 characters.
    pub(crate) fn token(&self, dispatch: &DispatchId) -> String {
        format!("pangolin-{}", &self.hash(dispatch)[..48])
    }

    /// `startedBy`: at most 128 characters, of which older texts of AWS say 36.
    pub(crate) fn started_by(&self, dispatch: &DispatchId) -> String {
        format!("pg-{}", &self.hash(dispatch)[..32])
    }

    /// Family of a task definition with this content.
    pub(crate) fn family(&self, content: &str) -> String {
        format!("pangolin-{}-{}", self.stack, &Digest::of(content.as_bytes()).hex()[..24])
    }
}
