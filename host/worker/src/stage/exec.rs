//! Last stage: limits and privileges, then the command.

use std::{fs, os::unix::process::CommandExt, path::Path, process::Command};

use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        prctl::{set_no_new_privs, set_pdeathsig},
        resource::{Resource, getrlimit, setrlimit},
        signal::Signal,
    },
    unistd::{getegid, geteuid, setsid},
};

use super::{ExecOrder, OrderFile, ResourceLimits, SANDBOX_ID, fail};

/// Runs the stage.
pub(crate) fn run(path: &Path) -> i32 {
    let (mut file, order) = match OrderFile::open::<ExecOrder>(path) {
        Ok(opened) => opened,
        Err(_) => return super::STAGE_FAILED,
    };
    // From here on nobody else can open it, and it is empty when the command runs.
    let prepared = fs::remove_file(path)
        .and_then(|()| file.report(None))
        .map_err(|error| format!("cannot clear the orders: {error}"))
        .and_then(|()| prepare(&order));
    if let Err(error) = prepared {
        return fail(file, Vec::new(), error);
    }
    let error = Command::new(&order.program)
        .args(&order.args)
        .env_clear()
        .envs(&order.env)
        .current_dir(&order.directory)
        .exec();
    fail(file, Vec::new(), format!("cannot start {:?}: {error}", order.program))
}

fn prepare(order: &ExecOrder) -> Result<(), String> {
    // A session of its own: no terminal to talk to, and one group for the polite signal.
    setsid().map_err(|errno| format!("cannot start a session: {errno}"))?;
    if order.nested_user {
        enter_user_namespace(SANDBOX_ID)?;
    }
    limit(&order.limits)?;
    set_no_new_privs().map_err(|errno| format!("cannot set no_new_privs: {errno}"))?;
    // After the last change of credentials, which would clear it.
    set_pdeathsig(Signal::SIGKILL).map_err(|errno| format!("cannot bind the command to its parent: {errno}"))
}

/// Moves this process into a new user namespace where its user and group are `inside`.
pub(crate) fn enter_user_namespace(inside: u32) -> Result<(), String> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| {
        format!(
            "cannot make a user namespace: {errno}; allow unprivileged user namespaces \
             (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns, \
             user.max_user_namespaces) or use isolation \"container\""
        )
    })?;
    let write = |name: &str, text: String| {
        fs::write(format!("/proc/self/{name}"), text).map_err(|error| format!("cannot write {name}: {error}"))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("{inside} {uid} 1"))?;
    write("gid_map", format!("{inside} {gid} 1"))
}

fn limit(limits: &ResourceLimits) -> Result<(), String> {
    let wanted = [
        (Resource::RLIMIT_CORE, "core", Some(0)),
        (Resource::RLIMIT_FSIZE, "file size", limits.file_bytes),
        (Resource::RLIMIT_DATA, "data size", limits.data_bytes),
        (Resource::RLIMIT_NPROC, "process count", limits.processes),
        (Resource::RLIMIT_NOFILE, "open files", limits.open_files),
    ];
    for (resource, name, value) in wanted {
        let Some(value) = value else { continue };
        let (_, hard) =
            getrlimit(resource).map_err(|errno| format!("cannot read the {name} limit: {errno}"))?;
        // A lower limit that is already there stays.
        let value = value.min(hard);
        setrlimit(resource, value, value).map_err(|errno| format!("cannot set the {name} limit: {errno}"))?;
    }
    Ok(())
}
