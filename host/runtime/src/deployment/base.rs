//! The base commit that a submitter brings along, for a deployment that cannot see the repository.

use pangolin_orchestrator::message::Base;

use super::{Deployment, Place, RuntimeError};
use crate::git::{self, GitError};

impl Deployment {
    /// Packs the base commit and uploads it; `None` when the deployment has its own repository or uses none.
    pub(super) async fn base(&self) -> Result<Option<Base>, RuntimeError> {
        let Place::Stack { workspace, .. } = &self.place else { return Ok(None) };
        if self.config.workspace.repo.is_none() {
            return Ok(None);
        }
        let found = workspace.as_ref().and_then(|workspace| Some((workspace.repo.clone()?, workspace)));
        let Some((repo, workspace)) = found else {
            return Err(RuntimeError::Rejected {
                reason: "runs of this stack start from a commit, and there is no [workspace] repo in a pangolin.toml \
                         here; submit from the project's directory"
                    .to_owned(),
                findings: Vec::new(),
            });
        };
        let revision = workspace.base.clone().unwrap_or_else(|| "HEAD".to_owned());
        let scratch =
            tempfile::tempdir().map_err(|source| RuntimeError::Io { path: std::env::temp_dir(), source })?;
        let (from, to) = (repo.clone(), scratch.path().to_owned());
        let packed = tokio::task::spawn_blocking(move || {
            let commit = git::resolve_commit(&from, &revision)?;
            let pack = git::pack(&from, &commit, &to)?;
            Ok::<_, GitError>((commit, pack))
        });
        let packed = packed
            .await
            .map_err(|error| RuntimeError::Io { path: repo.clone(), source: std::io::Error::other(error) })?;
        let (commit, pack) = packed.map_err(|source| RuntimeError::Base { repo, source })?;
        Ok(Some(Base { commit, pack: self.blobs.put_file(&pack).await? }))
    }
}
