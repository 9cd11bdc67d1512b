//! A world in memory: for tests of blocks without a workspace, a network or programs.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use pangolin_core::ids::Digest;

use crate::block_world::{
    ArtifactId, BlockWorld, ExecOutcome, ExecRequest, FetchRequest, FetchResponse, FileEntry, WorldError,
};

/// Obeys the port with what it was given. What a program or host would answer is given in advance; what was not is
/// refused.
#[derive(Debug, Clone, Default)]
pub struct MemoryWorld {
    /// Files by virtual path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Records of earlier blocks by id or position.
    pub earlier: BTreeMap<String, String>,
    /// What programs answer, by `program arg arg`, in the order of their calls; the last answer stays.
    pub programs: BTreeMap<String, VecDeque<ExecOutcome>>,
    /// What hosts answer, by `METHOD url`, in the order of the calls; the last answer stays.
    pub hosts: BTreeMap<String, VecDeque<Result<FetchResponse, String>>>,
    /// Names of the secrets that the dispatch would have.
    pub secrets: Vec<String>,
    /// Committed artifacts by path.
    pub artifacts: BTreeMap<String, Vec<u8>>,
    /// Somebody asked for the end.
    pub stop: bool,
    open: BTreeMap<ArtifactId, (String, Vec<u8>)>,
    next: u32,
}

impl MemoryWorld {
    /// One with these files.
    #[must_use]
    pub fn with_files<P: Into<String>, B: Into<Vec<u8>>>(files: impl IntoIterator<Item = (P, B)>) -> Self {
        let files = files.into_iter().map(|(path, bytes)| (path.into(), bytes.into())).collect();
        Self { files, ..Self::default() }
    }

    fn has_secret(&self, name: &str) -> Result<(), WorldError> {
        if self.secrets.iter().any(|have| have == name) {
            return Ok(());
        }
        Err(WorldError::Refused(format!("secret {name:?} was not handed to this dispatch")))
    }
}

/// The next answer; the last one is repeated.
fn next<T: Clone>(answers: &mut VecDeque<T>) -> Option<T> {
    if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
}

impl BlockWorld for MemoryWorld {
    fn files(&mut self) -> Result<Arc<Vec<FileEntry>>, WorldError> {
        let entry = |(path, bytes): (&String, &Vec<u8>)| FileEntry {
            path: path.clone(),
            size: bytes.len() as u64,
            digest: Some(Digest::of(bytes)),
        };
        Ok(Arc::new(self.files.iter().map(entry).collect()))
    }

    fn read(&mut self, path: &str, offset: u64, length: u32) -> Result<Vec<u8>, WorldError> {
        let bytes = self.files.get(path).ok_or(WorldError::Missing)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let to = from.saturating_add(length as usize).min(bytes.len());
        Ok(bytes[from..to].to_vec())
    }

    fn earlier(&mut self, block: &str) -> Option<String> {
        self.earlier.get(block).cloned()
    }

    fn begin_artifact(&mut self, path: &str) -> Result<ArtifactId, WorldError> {
        let id = ArtifactId(self.next);
        self.next += 1;
        self.open.insert(id, (path.to_owned(), Vec::new()));
        Ok(id)
    }

    fn write_artifact(&mut self, id: ArtifactId, data: &[u8]) -> Result<(), WorldError> {
        let (_, bytes) = self.open.get_mut(&id).ok_or(WorldError::Missing)?;
        bytes.extend_from_slice(data);
        Ok(())
    }

    fn commit_artifact(&mut self, id: ArtifactId) -> Result<(Digest, u64), WorldError> {
        let (path, bytes) = self.open.remove(&id).ok_or(WorldError::Missing)?;
        let answer = (Digest::of(&bytes), bytes.len() as u64);
        self.artifacts.insert(path, bytes);
        Ok(answer)
    }

    fn drop_artifact(&mut self, id: ArtifactId) {
        self.open.remove(&id);
    }

    fn run(&mut self, command: &ExecRequest) -> Result<ExecOutcome, WorldError> {
        for name in command.env_secrets.values() {
            self.has_secret(name)?;
        }
        let line = [std::slice::from_ref(&command.program), &command.args].concat().join(" ");
        let answer = self.programs.get_mut(&line).and_then(next);
        answer.ok_or_else(|| WorldError::Refused(format!("the fixture has no answer for program {line:?}")))
    }

    fn fetch(&mut self, request: &FetchRequest) -> Result<FetchResponse, WorldError> {
        for (_, name) in &request.header_secrets {
            self.has_secret(name)?;
        }
        let line = format!("{} {}", request.method, request.url);
        match self.hosts.get_mut(&line).and_then(next) {
            Some(Ok(answer)) if answer.body.len() as u64 > request.response_bytes => Err(
                WorldError::Transport(format!("the answer has more than {} bytes", request.response_bytes)),
            ),
            Some(answer) => answer.map_err(WorldError::Transport),
            None => Err(WorldError::Refused(format!("the fixture has no answer for {line:?}"))),
        }
    }

    fn stopped(&self) -> bool {
        self.stop
    }
}
