//! Host side of `pangolin:runtime-adapter/session`: the task an adapter sees and the launch plan it writes.

use std::sync::Arc;

use pangolin_core::ids::Digest;
use pangolin_envelope::envelope::LaunchPlan;
use wasmtime::component::Resource;

use crate::{
    adapter::AdapterTask,
    bindings::adapter::pangolin::{base::types::Refusal, runtime_adapter::session},
    failure::Failure,
    limits::Limits,
    report::ReportDraft,
    state::{CallState, Meter, stop},
};

/// Longest single argument in bytes, terminator included: `MAX_ARG_STRLEN` of Linux.
const ARG_BYTES_MAX: usize = 128 << 10;

/// Arguments and variables together in bytes; half of the smallest usual `ARG_MAX` (2 MiB).
const EXEC_BYTES_MAX: usize = 1 << 20;

/// The `task-view` resource.
#[expect(unreachable_pub, reason = "generated code re-exports it")]
pub struct TaskView(pub(crate) Arc<AdapterTask>);

/// The `launch-plan` resource.
#[expect(unreachable_pub, reason = "generated code re-exports it")]
pub struct PlanDraft {
    plan: LaunchPlan,
    task: Arc<AdapterTask>,
    stdin: Vec<u8>,
    exec_bytes: usize,
    meter: Meter,
}

impl PlanDraft {
    pub(crate) fn new(task: Arc<AdapterTask>, digest: Digest, limits: &Limits) -> Self {
        let plan = LaunchPlan {
            adapter: task.adapter.clone(),
            adapter_digest: Some(digest),
            ..LaunchPlan::default()
        };
        Self { plan, task, stdin: Vec::new(), exec_bytes: 0, meter: Meter::new("launch plan", limits) }
    }

    /// The finished plan.
    pub(crate) fn finish(self) -> Result<LaunchPlan, Failure> {
        let mut plan = self.plan;
        if plan.program.is_empty() {
            return Err(Failure::ContractMismatch { problem: "the launch plan names no program".into() });
        }
        plan.stdin = String::from_utf8(self.stdin).map_err(|_| Failure::Refused {
            capability: "stdin".into(),
            subject: plan.program.clone(),
            reason: "stdin must be UTF-8 text".into(),
        })?;
        Ok(plan)
    }

    fn take_exec(&mut self, what: &str, bytes: usize) -> wasmtime::Result<()> {
        let limit = |what: String, size: usize, cap: usize| {
            stop(Failure::OutputLimit { what, size: size as u64, cap: cap as u64 })
        };
        if bytes >= ARG_BYTES_MAX {
            return Err(limit(format!("one {what} of the launch plan in bytes"), bytes, ARG_BYTES_MAX - 1));
        }
        self.exec_bytes += bytes + 1;
        if self.exec_bytes > EXEC_BYTES_MAX {
            let what = "all arguments and variables of the launch plan in bytes".to_owned();
            return Err(limit(what, self.exec_bytes, EXEC_BYTES_MAX));
        }
        self.meter.take(bytes)
    }
}

fn refuse(capability: &str, subject: &str, reason: &str) -> Refusal {
    Refusal { capability: capability.into(), subject: subject.into(), reason: reason.into() }
}

/// NUL cannot be passed to a program.
fn no_nul(what: &str, value: &str) -> wasmtime::Result<()> {
    if !value.contains('\0') {
        return Ok(());
    }
    Err(stop(Failure::Refused {
        capability: what.into(),
        subject: value.escape_debug().take(80).collect(),
        reason: "contains a NUL character".into(),
    }))
}

fn check_env_name(name: &str) -> Result<(), Refusal> {
    let well_formed = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|found| found.is_ascii_alphanumeric() || found == '_');
    if !well_formed {
        return Err(refuse("env", name, "a variable name has letters, digits and underscores"));
    }
    if name.starts_with("PANGOLIN_") {
        return Err(refuse("env", name, "PANGOLIN_ variables are set by the worker only"));
    }
    if name.starts_with("LD_")
        || name.starts_with("DYLD_")
        || matches!(name, "PATH" | "HOME" | "BASH_ENV" | "ENV")
    {
        return Err(refuse(
            "env",
            name,
            "decides what code runs or whose files are used; set it in an env bundle",
        ));
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), Refusal> {
    let parts: Vec<&str> = path.split('/').collect();
    let escapes = path.is_empty()
        || path.contains(['\\', '\0'])
        || parts.iter().any(|part| matches!(*part, "" | "." | ".."));
    if escapes {
        return Err(refuse("file", path, "must be a plain path below the workspace"));
    }
    if parts.iter().any(|part| part.eq_ignore_ascii_case(".git")) {
        return Err(refuse("file", path, "git's own files are not a plugin's business"));
    }
    Ok(())
}

fn check_program(name: &str, allowed: Option<&[String]>) -> Result<(), Refusal> {
    if name.is_empty() || name.contains('\0') {
        return Err(refuse("program", name, "must be a name or an absolute path"));
    }
    if name.contains('/') && (!name.starts_with('/') || name.split('/').any(|part| part == "..")) {
        return Err(refuse("program", name, "must be a bare name or an absolute path without .."));
    }
    match allowed {
        Some(allowed) if !allowed.iter().any(|granted| granted == name) => {
            let list = allowed.join(", ");
            Err(refuse("program", name, &format!("only these programs are granted: {list}")))
        }
        _ => Ok(()),
    }
}

impl session::Host for CallState {}

impl session::HostTaskView for CallState {
    fn system_prompt(&mut self, this: Resource<TaskView>) -> wasmtime::Result<Option<String>> {
        let value = self.table.get(&this)?.0.system_prompt.clone();
        self.answer(0, value)
    }

    fn prompt(&mut self, this: Resource<TaskView>) -> wasmtime::Result<String> {
        let value = self.table.get(&this)?.0.prompt.clone();
        self.answer(0, value)
    }

    fn model(&mut self, this: Resource<TaskView>) -> wasmtime::Result<Option<String>> {
        let value = self.table.get(&this)?.0.model.clone().filter(|model| !model.is_empty());
        self.answer(0, value)
    }

    fn workspace(&mut self, this: Resource<TaskView>) -> wasmtime::Result<String> {
        let value = self.table.get(&this)?.0.workspace.clone();
        self.answer(0, value)
    }

    fn timeout_seconds(&mut self, this: Resource<TaskView>) -> wasmtime::Result<u32> {
        let value = self.table.get(&this)?.0.timeout_seconds;
        self.answer(0, value)
    }

    fn input_json(&mut self, this: Resource<TaskView>) -> wasmtime::Result<String> {
        let value = self.table.get(&this)?.0.input_json.clone();
        self.answer(0, value)
    }

    fn secret_names(&mut self, this: Resource<TaskView>) -> wasmtime::Result<Vec<String>> {
        let value = self.table.get(&this)?.0.secret_names.clone();
        self.answer(0, value)
    }

    fn attr(&mut self, this: Resource<TaskView>, key: String) -> wasmtime::Result<Option<String>> {
        let weight = key.len();
        let value = self.table.get(&this)?.0.attrs.get(&key).cloned();
        self.answer(weight, value)
    }

    fn drop(&mut self, this: Resource<TaskView>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl session::HostLaunchPlan for CallState {
    fn program(&mut self, this: Resource<PlanDraft>, name: String) -> wasmtime::Result<Result<(), Refusal>> {
        self.called(name.len())?;
        if let Some(refusal) = self.forced() {
            return Ok(Err(refusal));
        }
        let draft = self.table.get_mut(&this)?;
        if let Err(refusal) = check_program(&name, draft.task.allowed_programs.as_deref()) {
            return Ok(Err(refusal));
        }
        draft.take_exec("argument", name.len())?;
        draft.plan.program = name;
        Ok(Ok(()))
    }

    fn arg(&mut self, this: Resource<PlanDraft>, value: String) -> wasmtime::Result<()> {
        self.called(value.len())?;
        no_nul("arg", &value)?;
        let draft = self.table.get_mut(&this)?;
        draft.take_exec("argument", value.len())?;
        draft.plan.args.push(value);
        Ok(())
    }

    fn env(
        &mut self,
        this: Resource<PlanDraft>,
        key: String,
        value: String,
    ) -> wasmtime::Result<Result<(), Refusal>> {
        self.called(key.len() + value.len())?;
        if let Some(refusal) = self.forced() {
            return Ok(Err(refusal));
        }
        no_nul("env", &value)?;
        if let Err(refusal) = check_env_name(&key) {
            return Ok(Err(refusal));
        }
        let draft = self.table.get_mut(&this)?;
        draft.take_exec("variable", key.len() + value.len() + 1)?;
        draft.plan.env_secrets.remove(&key);
        draft.plan.env.insert(key, value);
        Ok(Ok(()))
    }

    fn env_secret(
        &mut self,
        this: Resource<PlanDraft>,
        key: String,
        secret: String,
    ) -> wasmtime::Result<Result<(), Refusal>> {
        self.called(key.len() + secret.len())?;
        if let Some(refusal) = self.forced() {
            return Ok(Err(refusal));
        }
        if let Err(refusal) = check_env_name(&key) {
            return Ok(Err(refusal));
        }
        let draft = self.table.get_mut(&this)?;
        if !draft.task.secret_names.contains(&secret) {
            return Ok(Err(refuse("secret", &secret, "not offered to this task; add it to the env bundle")));
        }
        draft.take_exec("variable", key.len() + secret.len() + 1)?;
        draft.plan.env.remove(&key);
        draft.plan.env_secrets.insert(key, secret);
        Ok(Ok(()))
    }

    fn stdin(&mut self, this: Resource<PlanDraft>, data: Vec<u8>) -> wasmtime::Result<()> {
        self.called(data.len())?;
        let draft = self.table.get_mut(&this)?;
        draft.meter.take(data.len())?;
        draft.stdin.extend_from_slice(&data);
        Ok(())
    }

    fn file(
        &mut self,
        this: Resource<PlanDraft>,
        path: String,
        data: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Refusal>> {
        self.called(path.len() + data.len())?;
        if let Some(refusal) = self.forced() {
            return Ok(Err(refusal));
        }
        if let Err(refusal) = check_path(&path) {
            return Ok(Err(refusal));
        }
        let draft = self.table.get_mut(&this)?;
        draft.meter.take(path.len() + data.len())?;
        match String::from_utf8(data) {
            Ok(text) => {
                draft.plan.files.insert(path, text);
                Ok(Ok(()))
            }
            Err(_) => Ok(Err(refuse("file", &path, "must be UTF-8 text"))),
        }
    }

    fn expect(&mut self, this: Resource<PlanDraft>, key: String, value: String) -> wasmtime::Result<()> {
        self.called(key.len() + value.len())?;
        // The envelope has no place for expectations yet; they are an author's note until it has.
        let draft = self.table.get_mut(&this)?;
        draft.meter.take(key.len() + value.len())?;
        tracing::debug!(adapter = %draft.plan.adapter, key, value, "launch plan expects");
        Ok(())
    }

    fn drop(&mut self, this: Resource<PlanDraft>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl session::HostReport for CallState {
    fn event(&mut self, this: Resource<ReportDraft>, kind: String, json: String) -> wasmtime::Result<()> {
        self.called(kind.len() + json.len())?;
        self.table.get_mut(&this)?.event(kind, &json);
        Ok(())
    }

    fn text(&mut self, this: Resource<ReportDraft>, chunk: String) -> wasmtime::Result<()> {
        self.called(chunk.len())?;
        self.table.get_mut(&this)?.text(&chunk);
        Ok(())
    }

    fn usage(&mut self, this: Resource<ReportDraft>, key: String, amount: f64) -> wasmtime::Result<()> {
        self.called(key.len())?;
        self.table.get_mut(&this)?.usage(key, amount)
    }

    fn usage_quality(&mut self, this: Resource<ReportDraft>, level: String) -> wasmtime::Result<()> {
        self.called(level.len())?;
        self.table.get_mut(&this)?.quality(&level);
        Ok(())
    }

    fn model_used(&mut self, this: Resource<ReportDraft>, name: String) -> wasmtime::Result<()> {
        self.called(name.len())?;
        self.table.get_mut(&this)?.model(name);
        Ok(())
    }

    fn session_id(&mut self, this: Resource<ReportDraft>, id: String) -> wasmtime::Result<()> {
        self.called(id.len())?;
        self.table.get_mut(&this)?.session(id);
        Ok(())
    }

    fn denial(
        &mut self,
        this: Resource<ReportDraft>,
        subject: String,
        detail_json: String,
    ) -> wasmtime::Result<()> {
        self.called(subject.len() + detail_json.len())?;
        self.table.get_mut(&this)?.denial(subject, &detail_json);
        Ok(())
    }

    fn question(&mut self, this: Resource<ReportDraft>, json: String) -> wasmtime::Result<()> {
        self.called(json.len())?;
        self.table.get_mut(&this)?.question(&json);
        Ok(())
    }

    fn outcome(
        &mut self,
        this: Resource<ReportDraft>,
        code: String,
        message: String,
    ) -> wasmtime::Result<()> {
        self.called(code.len() + message.len())?;
        self.table.get_mut(&this)?.outcome(&code, message);
        Ok(())
    }

    fn drop(&mut self, this: Resource<ReportDraft>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
