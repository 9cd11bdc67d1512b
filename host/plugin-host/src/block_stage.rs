//! Host side of `pangolin:block/stage`.

use wasmtime::component::Resource;

use crate::{
    bindings::block::pangolin::{
        base::types::{BytesRange, Refusal},
        block::stage,
    },
    block::{BlockInput, BlockOutput},
    block_rules::path_problem,
    block_world::{ArtifactId, WorldError},
    state::CallState,
};

/// Most entries of one page.
const PAGE_MAX: usize = 1_024;

/// Most bytes of one read; asking for more answers this many.
const READ_MAX: u32 = 1 << 20;

/// The `artifact-writer` resource.
#[expect(unreachable_pub, reason = "generated code re-exports it")]
pub struct ArtifactWriter {
    id: ArtifactId,
    path: String,
    /// After a commit or a failed write there is nothing to write to.
    closed: Option<&'static str>,
}

/// Why a virtual path is none.
fn virtual_problem(path: &str) -> Option<String> {
    if let Some(problem) = path_problem(path) {
        return Some(format!("the path {problem}; it must be one that list-files names"));
    }
    let (root, below) = path.split_once('/').unwrap_or((path, ""));
    let known = match root {
        "workspace" | "base" | "outputs" => !below.is_empty(),
        "changes.json" => below.is_empty(),
        _ => false,
    };
    let roots = "paths start with workspace/, base/ or outputs/, or are changes.json";
    (!known).then(|| roots.to_owned())
}

/// The rule of a grant that shows everything a listing asked for. A prefix may end within a name; what it shows then is the
/// directory, because no rule is about the beginning of a path.
fn below(prefix: &str) -> String {
    let directory = prefix.rsplit_once('/').map_or("", |(directory, _)| directory);
    if directory.is_empty() { "**".to_owned() } else { format!("{directory}/**") }
}

impl stage::Host for CallState {}

impl stage::HostInput for CallState {
    fn params_json(&mut self, _: Resource<BlockInput>) -> wasmtime::Result<String> {
        self.called(0)?;
        let params = self.step()?.params.clone();
        self.answers(params.len());
        Ok(params)
    }

    fn position(&mut self, _: Resource<BlockInput>) -> wasmtime::Result<u32> {
        self.called(0)?;
        Ok(self.step()?.position)
    }

    fn earlier_json(&mut self, _: Resource<BlockInput>, block: String) -> wasmtime::Result<Option<String>> {
        self.called(block.len())?;
        let record = self.block()?.world.earlier(&block);
        self.answers(record.as_ref().map_or(0, String::len));
        Ok(record)
    }

    fn list_files(
        &mut self,
        _: Resource<BlockInput>,
        prefix: String,
        offset: u32,
        limit: u32,
    ) -> wasmtime::Result<Result<Vec<stage::Entry>, Refusal>> {
        self.called(prefix.len())?;
        if let Some(refusal) = self.forced() {
            return Ok(Err(refusal));
        }
        let most = self.probe.page_items.unwrap_or(PAGE_MAX).max(1);
        let block = self.block()?;
        let listing = match block.listing() {
            Ok(listing) => listing,
            Err(error) => return block.refused_by_world("read", &prefix, error).map(Err),
        };
        // Sorted by path, so what starts with the prefix stands together.
        let from = listing.partition_point(|entry| entry.path.as_str() < prefix.as_str());
        let count = listing[from..].partition_point(|entry| entry.path.starts_with(&prefix));
        let found = &listing[from..from + count];
        if found.is_empty() {
            let all = match block.world.files() {
                Ok(all) => all,
                Err(error) => return block.refused_by_world("read", &prefix, error).map(Err),
            };
            if let Some(hidden) = all.iter().find(|entry| entry.path.starts_with(&prefix)) {
                let wanted = if hidden.path == prefix { prefix } else { below(&prefix) };
                let rule = block.rules.not_listed(&wanted);
                return Ok(Err(block.refuse("read", &wanted, rule)));
            }
        }
        let page: Vec<stage::Entry> = found
            .iter()
            .skip(offset as usize)
            .take(most.min(limit as usize))
            .map(|entry| stage::Entry {
                path: entry.path.clone(),
                size: entry.size,
                digest: entry.digest.map(|digest| digest.to_string()),
            })
            .collect();
        self.answers(page.iter().map(|entry| entry.path.len() + 80).sum());
        Ok(Ok(page))
    }

    fn read(
        &mut self,
        _: Resource<BlockInput>,
        path: String,
        range: BytesRange,
    ) -> wasmtime::Result<Result<Vec<u8>, Refusal>> {
        self.called(path.len())?;
        if let Some(refusal) = self.forced() {
            return Ok(Err(refusal));
        }
        let block = self.block()?;
        if let Some(rule) = virtual_problem(&path) {
            return Ok(Err(block.refuse("read", &path, rule)));
        }
        if let Err(rule) = block.rules.read(&path) {
            return Ok(Err(block.refuse("read", &path, rule)));
        }
        let length = range.length.min(READ_MAX);
        let cap = block.limits().read_bytes;
        if block.read_bytes.saturating_add(u64::from(length)) > cap {
            let rule = format!("a block may read {cap} bytes; read less, or raise the limit in the grant");
            return Ok(Err(block.refuse("read", &path, rule)));
        }
        let bytes = match block.world.read(&path, range.offset, length) {
            Ok(bytes) => bytes,
            Err(error) => return block.refused_by_world("read", &path, error).map(Err),
        };
        block.read_bytes += bytes.len() as u64;
        self.answers(bytes.len());
        Ok(Ok(bytes))
    }

    fn attr(&mut self, _: Resource<BlockInput>, key: String) -> wasmtime::Result<Option<String>> {
        self.called(key.len())?;
        let value = self.block()?.attrs.get(&key).cloned();
        self.answers(value.as_ref().map_or(0, String::len));
        Ok(value)
    }

    fn drop(&mut self, this: Resource<BlockInput>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl stage::HostOutput for CallState {
    fn artifact(
        &mut self,
        _: Resource<BlockOutput>,
        path: String,
    ) -> wasmtime::Result<Result<Resource<ArtifactWriter>, Refusal>> {
        self.called(path.len())?;
        if let Some(refusal) = self.forced() {
            return Ok(Err(refusal));
        }
        let block = self.block()?;
        if let Some(problem) = path_problem(&path) {
            return Ok(Err(block.refuse("write", &path, format!("the path {problem}"))));
        }
        let taken = block.rules.write(&path).and_then(|()| block.take_artifact());
        if let Err(rule) = taken {
            return Ok(Err(block.refuse("write", &path, rule)));
        }
        let id = match block.world.begin_artifact(&path) {
            Ok(id) => id,
            Err(error) => return block.refused_by_world("write", &path, error).map(Err),
        };
        Ok(Ok(self.table.push(ArtifactWriter { id, path, closed: None })?))
    }

    fn verdict(&mut self, _: Resource<BlockOutput>, passed: bool, summary: String) -> wasmtime::Result<()> {
        self.called(summary.len())?;
        self.block()?.set_verdict(passed, &summary);
        Ok(())
    }

    fn evidence(&mut self, _: Resource<BlockOutput>, key: String, json: String) -> wasmtime::Result<()> {
        self.called(key.len() + json.len())?;
        self.block()?.add_evidence(key, &json)
    }

    fn drop(&mut self, this: Resource<BlockOutput>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl CallState {
    fn close_artifact(&mut self, this: &Resource<ArtifactWriter>, why: &'static str) -> wasmtime::Result<()> {
        let id = {
            let writer = self.table.get_mut(this)?;
            writer.closed = Some(why);
            writer.id
        };
        self.block()?.world.drop_artifact(id);
        Ok(())
    }
}

impl stage::HostArtifactWriter for CallState {
    fn write(
        &mut self,
        this: Resource<ArtifactWriter>,
        data: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Refusal>> {
        self.called(data.len())?;
        if let Some(refusal) = self.forced() {
            return Ok(Err(refusal));
        }
        let writer = self.table.get(&this)?;
        let (id, path, closed) = (writer.id, writer.path.clone(), writer.closed);
        let block = self.block()?;
        if let Some(why) = closed {
            return Ok(Err(block.refuse("write", &path, why)));
        }
        let written = match block.take_artifact_bytes(data.len()) {
            Ok(()) => block.world.write_artifact(id, &data),
            Err(rule) => Err(WorldError::Refused(rule)),
        };
        let Err(error) = written else { return Ok(Ok(())) };
        let refusal = block.refused_by_world("write", &path, error)?;
        // A part of a file must never be committed.
        self.close_artifact(&this, "an earlier write of this artifact was refused; start it again")?;
        Ok(Err(refusal))
    }

    fn commit(&mut self, this: Resource<ArtifactWriter>) -> wasmtime::Result<Result<String, Refusal>> {
        self.called(0)?;
        if let Some(refusal) = self.forced() {
            return Ok(Err(refusal));
        }
        let writer = self.table.get_mut(&this)?;
        let (id, path) = (writer.id, writer.path.clone());
        let closed = writer.closed.replace("the artifact was committed before");
        let block = self.block()?;
        if let Some(why) = closed {
            return Ok(Err(block.refuse("write", &path, why)));
        }
        match block.world.commit_artifact(id) {
            Ok((digest, size)) => {
                block.committed(path, digest, size);
                Ok(Ok(digest.to_string()))
            }
            Err(error) => block.refused_by_world("write", &path, error).map(Err),
        }
    }

    fn drop(&mut self, this: Resource<ArtifactWriter>) -> wasmtime::Result<()> {
        let writer = self.table.delete(this)?;
        if writer.closed.is_none() {
            self.block()?.world.drop_artifact(writer.id);
        }
        Ok(())
    }
}
