//! DRAFT stand-in until pangolin-runtime lands: same signatures, every call answers with an error.
#![allow(dead_code, missing_docs, reason = "draft")]
pub(crate) use crate::{config, registry, views};
use pangolin_core::ids::*;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum RuntimeError {
    #[error("run {run} is not known here")]
    NotFound { run: String },
    #[error("plan rejected")]
    Rejected { findings: Vec<Finding> },
    #[error("not built yet")]
    Draft,
}
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Finding {
    pub pointer: String,
    pub code: String,
    pub severity: Severity,
    pub message: String,
    pub hint: Option<String>,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Error,
    Warning,
}
pub(crate) mod deployment {
    use super::*;
    pub(crate) struct InitOptions {
        pub namespace: Option<String>,
        pub force: bool,
    }
    pub(crate) struct InitReport {
        pub files: Vec<PathBuf>,
        pub vkey: String,
    }
    pub(crate) async fn init(_: &Path, _: InitOptions) -> Result<InitReport, RuntimeError> {
        Err(RuntimeError::Draft)
    }
    pub(crate) struct Validated {
        pub items: usize,
        pub warnings: Vec<Finding>,
    }
    pub(crate) struct SubmitOptions {
        pub queue: Option<String>,
        pub actor: String,
    }
    pub(crate) struct Admission {
        pub receipt: serde_json::Value,
    }
    pub(crate) struct DaemonInfo {
        pub pid: u32,
    }
    pub(crate) struct ServeOptions {
        pub on_ready: Option<Box<dyn FnOnce() + Send>>,
    }
    pub(crate) struct DispatchRequest {
        pub subagent: String,
        pub executor: Option<String>,
        pub env: Vec<String>,
        pub input: serde_json::Value,
        pub capabilities: Vec<String>,
        pub actor: String,
    }
    pub(crate) struct Deployment;
    impl Deployment {
        pub(crate) async fn open(_: config::Config) -> Result<Self, RuntimeError> {
            Err(RuntimeError::Draft)
        }
        pub(crate) fn registry(&self) -> &registry::Registry {
            unreachable!()
        }
        pub(crate) fn secret_dir(&self) -> PathBuf {
            unreachable!()
        }
        pub(crate) fn vkey(&self) -> String {
            unreachable!()
        }
        pub(crate) fn now(&self) -> i64 {
            unreachable!()
        }
        pub(crate) async fn validate(&self, _: &[u8], _: Option<&str>) -> Result<Validated, Vec<Finding>> {
            unreachable!()
        }
        pub(crate) async fn submit(&self, _: &[u8], _: SubmitOptions) -> Result<RunId, RuntimeError> {
            unreachable!()
        }
        pub(crate) async fn receipt(
            &self,
            _: &RunId,
            _: Duration,
        ) -> Result<Option<Admission>, RuntimeError> {
            unreachable!()
        }
        pub(crate) async fn cancel(
            &self,
            _: &RunId,
            _: Option<&ItemId>,
            _: &str,
        ) -> Result<(), RuntimeError> {
            unreachable!()
        }
        pub(crate) async fn runs(&self) -> Result<Vec<views::RunSummary>, RuntimeError> {
            unreachable!()
        }
        pub(crate) async fn run_view(&self, _: &RunId) -> Result<views::RunView, RuntimeError> {
            unreachable!()
        }
        pub(crate) async fn is_queued(&self, _: &RunId) -> Result<bool, RuntimeError> {
            unreachable!()
        }
        pub(crate) async fn changed(&self) {
            unreachable!()
        }
        pub(crate) async fn daemon(&self) -> Option<DaemonInfo> {
            unreachable!()
        }
        pub(crate) async fn bundle(&self, _: &RunId) -> Result<Vec<u8>, RuntimeError> {
            unreachable!()
        }
        pub(crate) async fn blob(&self, _: &Digest) -> Result<Vec<u8>, RuntimeError> {
            unreachable!()
        }
        pub(crate) async fn serve(
            &self,
            _: ServeOptions,
            _: impl std::future::Future<Output = ()> + Send,
        ) -> Result<(), RuntimeError> {
            unreachable!()
        }
        pub(crate) async fn dispatch_run(
            &self,
            _: DispatchRequest,
        ) -> Result<serde_json::Value, RuntimeError> {
            unreachable!()
        }
        pub(crate) async fn dispatch_describe(
            &self,
            _: &DispatchId,
        ) -> Result<serde_json::Value, RuntimeError> {
            unreachable!()
        }
        pub(crate) async fn dispatch_cancel(&self, _: &DispatchId) -> Result<(), RuntimeError> {
            unreachable!()
        }
    }
}
pub(crate) mod patches {
    use super::deployment::Deployment;
    use super::*;
    #[derive(serde::Serialize)]
    pub(crate) struct PatchFile {
        pub path: String,
        pub added: u64,
        pub removed: u64,
        pub binary: bool,
    }
    #[derive(serde::Serialize)]
    pub(crate) struct PatchInfo {
        pub item: ItemId,
        pub attempt: u32,
        pub digest: Digest,
        pub bytes: u64,
        pub files: Vec<PatchFile>,
        pub tree: Option<String>,
        pub base_commit: Option<String>,
        pub status: String,
        pub flags: Vec<String>,
    }
    pub(crate) struct ApplyOptions {
        pub three_way: bool,
        pub check_only: bool,
    }
    #[derive(serde::Serialize)]
    pub(crate) struct ApplyReport {
        pub item: ItemId,
        pub files: Vec<String>,
        pub tree_matches: bool,
    }
    pub(crate) async fn list(
        _: &Deployment,
        _: &RunId,
        _: Option<&ItemId>,
    ) -> Result<Vec<PatchInfo>, RuntimeError> {
        unreachable!()
    }
    pub(crate) async fn bytes(_: &Deployment, _: &Digest) -> Result<Vec<u8>, RuntimeError> {
        unreachable!()
    }
    pub(crate) async fn apply(
        _: &Deployment,
        _: &RunId,
        _: Option<&ItemId>,
        _: &Path,
        _: ApplyOptions,
    ) -> Result<Vec<ApplyReport>, RuntimeError> {
        unreachable!()
    }
}
pub(crate) mod doctor {
    use super::*;
    #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
    #[serde(rename_all = "lowercase")]
    pub(crate) enum Status {
        Ok,
        Warn,
        Fail,
    }
    #[derive(serde::Serialize)]
    pub(crate) struct Check {
        pub name: String,
        pub status: Status,
        pub detail: String,
        pub hint: Option<String>,
    }
    pub(crate) async fn run(_: Option<&config::Config>) -> Vec<Check> {
        Vec::new()
    }
}
