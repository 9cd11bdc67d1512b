//! Host side of `pangolin:block/exec`.

use std::{collections::BTreeMap, time::Duration};

use pangolin_envelope::plugin::ProgramRun;
use wasmtime::component::Resource;

use crate::{
    bindings::block::pangolin::{base::types::Refusal, block::exec},
    block_state::BlockState,
    block_world::ExecRequest,
    failure::{Failure, clip},
    state::{CallState, stop},
};

/// Everything of one command together in bytes: half of the smallest usual `ARG_MAX`.
const COMMAND_BYTES_MAX: usize = 1 << 20;

/// One argument or variable in bytes: below `MAX_ARG_STRLEN` of Linux.
const PIECE_BYTES_MAX: usize = (128 << 10) - 1;

/// Arguments kept in the record, all together in bytes.
const RECORDED_ARGS_BYTES: usize = 4 << 10;

/// The `command` resource.
#[expect(unreachable_pub, reason = "generated code re-exports it")]
pub struct CommandDraft {
    program: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    env_secrets: BTreeMap<String, String>,
    bytes: usize,
}

impl CommandDraft {
    fn take(&mut self, bytes: usize) -> wasmtime::Result<()> {
        let limit = |what: &str, size: usize, cap: usize| {
            stop(Failure::OutputLimit { what: what.into(), size: size as u64, cap: cap as u64 })
        };
        if bytes > PIECE_BYTES_MAX {
            return Err(limit("one argument or variable of a command in bytes", bytes, PIECE_BYTES_MAX));
        }
        self.bytes += bytes + 1;
        if self.bytes > COMMAND_BYTES_MAX {
            return Err(limit("a command in bytes", self.bytes, COMMAND_BYTES_MAX));
        }
        Ok(())
    }
}

/// Why a variable cannot be set by a plugin.
fn env_problem(name: &str) -> Option<&'static str> {
    let well_formed = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !well_formed {
        return Some("a variable name has letters, digits and underscores");
    }
    if name.starts_with("PANGOLIN_") {
        return Some("PANGOLIN_ variables are set by the worker only");
    }
    if name.starts_with("LD_")
        || name.starts_with("DYLD_")
        || matches!(name, "PATH" | "HOME" | "IFS" | "SHELL" | "BASH_ENV" | "ENV")
    {
        return Some("decides what code runs or whose files are used; set it in an env bundle");
    }
    None
}

/// The first rule that forbids the command: capability, subject, rule.
fn forbidden(block: &BlockState, draft: &CommandDraft) -> Option<(&'static str, String, String)> {
    let program = &draft.program;
    // The spelling that the authority's `why-denied` reads.
    let line = clip(format!("{program} {}", serde_json::Value::from(draft.args.as_slice())), 1_000);
    if program.is_empty() || program.split('/').any(|part| part == "..") {
        return Some(("exec", line, "a program is a name or a path without ..".to_owned()));
    }
    let pieces = std::iter::once(program).chain(&draft.args).chain(draft.env.values());
    if pieces.into_iter().any(|piece| piece.contains('\0')) {
        return Some(("exec", line, "contains a zero byte, which no program can be given".to_owned()));
    }
    if let Err(rule) = block.rules.exec(program, &draft.args) {
        return Some(("exec", line, rule));
    }
    for name in draft.env.keys().chain(draft.env_secrets.keys()) {
        if let Some(rule) = env_problem(name) {
            return Some(("env", clip(name.clone(), 300), rule.to_owned()));
        }
    }
    for (variable, secret) in &draft.env_secrets {
        if let Err(rule) = block.rules.secret(secret, &format!("env:{variable}"), program) {
            return Some(("secret", clip(format!("{secret} env:{variable} {program}"), 1_000), rule));
        }
    }
    let cap = block.limits().exec_runs;
    if block.exec_runs >= cap {
        let rule = format!("a block may start {cap} programs; start fewer, or raise the limit in the grant");
        return Some(("exec", line, rule));
    }
    None
}

fn recorded(args: &[String]) -> Vec<String> {
    let mut room = RECORDED_ARGS_BYTES;
    let mut kept = Vec::new();
    for arg in args {
        if room == 0 {
            kept.push("…".to_owned());
            break;
        }
        kept.push(clip(arg.clone(), room));
        room = room.saturating_sub(arg.len());
    }
    kept
}

impl exec::Host for CallState {}

impl exec::HostCommand for CallState {
    fn new(&mut self, program: String) -> wasmtime::Result<Resource<CommandDraft>> {
        self.called(program.len())?;
        let mut draft = CommandDraft {
            program: String::new(),
            args: Vec::new(),
            env: BTreeMap::new(),
            env_secrets: BTreeMap::new(),
            bytes: 0,
        };
        draft.take(program.len())?;
        draft.program = program;
        Ok(self.table.push(draft)?)
    }

    fn arg(&mut self, this: Resource<CommandDraft>, value: String) -> wasmtime::Result<()> {
        self.called(value.len())?;
        let draft = self.table.get_mut(&this)?;
        draft.take(value.len())?;
        draft.args.push(value);
        Ok(())
    }

    fn env(&mut self, this: Resource<CommandDraft>, key: String, value: String) -> wasmtime::Result<()> {
        self.called(key.len() + value.len())?;
        let draft = self.table.get_mut(&this)?;
        draft.take(key.len() + value.len() + 1)?;
        draft.env_secrets.remove(&key);
        draft.env.insert(key, value);
        Ok(())
    }

    fn env_secret(
        &mut self,
        this: Resource<CommandDraft>,
        key: String,
        secret: String,
    ) -> wasmtime::Result<()> {
        self.called(key.len() + secret.len())?;
        let draft = self.table.get_mut(&this)?;
        draft.take(key.len() + secret.len() + 1)?;
        draft.env.remove(&key);
        draft.env_secrets.insert(key, secret);
        Ok(())
    }

    fn run(
        &mut self,
        this: Resource<CommandDraft>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<exec::Outcome, Refusal>> {
        self.called(0)?;
        if let Some(refusal) = self.forced() {
            return Ok(Err(refusal));
        }
        let mut block = self.take_block()?;
        let answer = self.table.get(&this).map(|draft| run(&mut block, draft, timeout_ms));
        self.block = Some(block);
        let answer = answer??;
        self.answers(answer.as_ref().map_or(0, |outcome| outcome.stdout.len() + outcome.stderr.len()));
        Ok(answer)
    }

    fn drop(&mut self, this: Resource<CommandDraft>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

fn run(
    block: &mut BlockState,
    draft: &CommandDraft,
    timeout_ms: u32,
) -> wasmtime::Result<Result<exec::Outcome, Refusal>> {
    if let Some((capability, subject, rule)) = forbidden(block, draft) {
        return Ok(Err(block.refuse(capability, &subject, rule)));
    }
    block.exec_runs += 1;
    let request = ExecRequest {
        program: draft.program.clone(),
        args: draft.args.clone(),
        env: draft.env.clone(),
        env_secrets: draft.env_secrets.clone(),
        timeout: Duration::from_millis(u64::from(timeout_ms)).min(block.remaining()),
        output_bytes: block.limits().exec_output_bytes,
    };
    let outcome = block.world.run(&request);
    block.forget_listing();
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return block.refused_by_world("exec", &draft.program, error).map(Err),
    };
    for (variable, secret) in &draft.env_secrets {
        block.used_secret(secret, &format!("env:{variable}"), &draft.program);
    }
    block.ran(ProgramRun {
        program: draft.program.clone(),
        args: recorded(&draft.args),
        exit_code: outcome.exit_code,
        timed_out: outcome.timed_out,
        duration_ms: outcome.duration_ms,
    });
    Ok(Ok(exec::Outcome {
        exit_code: outcome.exit_code,
        timed_out: outcome.timed_out,
        stdout: outcome.stdout,
        stderr: outcome.stderr,
        truncated: outcome.truncated,
    }))
}
