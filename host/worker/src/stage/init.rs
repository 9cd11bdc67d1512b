//! Second stage of the sandbox: pid 1 of the new pid namespace. Its end is the end of everything in there.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use nix::{
    sys::{
        prctl::{set_dumpable, set_pdeathsig},
        signal::{Signal, kill},
        wait::WaitStatus,
    },
    unistd::{Pid, geteuid, sethostname},
};

use super::{ExecOrder, OrderFile, Report, SELF, SandboxOrder, fail, loopback, mounts};
use crate::{signals::watched, tree::reap};

/// Where the last stage finds its orders, inside the sandbox. It removes them before the command starts.
const ORDERS: &str = "/tmp/.pangolin-orders";

/// Smallest `pid_max` the kernel accepts (300 reserved pids).
const PID_MAX_MIN: u64 = 301;

/// Runs the stage.
pub(crate) fn run(path: &Path) -> i32 {
    let (mut file, order) = match OrderFile::open::<SandboxOrder>(path) {
        Ok(opened) => opened,
        Err(_) => return super::STAGE_FAILED,
    };
    let mut mechanisms = Vec::new();
    if let Err(error) = set_up(&order, &mut mechanisms) {
        return fail(file, mechanisms, error);
    }
    // Already now: when the sandbox is killed, this is what was in force.
    if file.report(Some(&Report { mechanisms: mechanisms.clone(), ..Report::default() })).is_err() {
        return super::STAGE_FAILED;
    }
    let report = match start(&order.command) {
        Ok((main, mut orders)) => {
            let (code, signal) = supervise(main);
            let error = orders.read_report().and_then(|report| report.error);
            Report { mechanisms, error, code, signal }
        }
        Err(error) => return fail(file, mechanisms, error),
    };
    if file.report(Some(&report)).is_err() {
        return super::STAGE_FAILED;
    }
    report.code.unwrap_or_else(|| 128 + report.signal.unwrap_or(9))
}

fn set_up(order: &SandboxOrder, mechanisms: &mut Vec<String>) -> Result<(), String> {
    let mut add = |names: &[&str]| mechanisms.extend(names.iter().map(|name| (*name).to_owned()));
    watched().thread_block().map_err(|errno| format!("cannot block signals: {errno}"))?;
    set_pdeathsig(Signal::SIGKILL)
        .map_err(|errno| format!("cannot bind the sandbox to its parent: {errno}"))?;
    sethostname("pangolin").map_err(|errno| format!("cannot set the host name: {errno}"))?;
    add(&["userns", "mountns", "pidns", "ipcns", "utsns", "cgroupns"]);
    if order.no_network {
        loopback::up()?;
        add(&["netns"]);
    }
    mounts::build(order)?;
    // Both settings belong to namespaces of this sandbox, and /proc/sys becomes read-only afterwards.
    let proc_sys = order.root.join("proc/sys");
    // One more user namespace: the command's own. The kernel surface behind further ones stays closed.
    fs::write(proc_sys.join("user/max_user_namespaces"), "1")
        .map_err(|error| format!("cannot forbid further user namespaces: {error}"))?;
    add(&["no-nested-userns"]);
    // Per pid namespace since Linux 6.14; before, the write is refused and RLIMIT_NPROC bounds ordinary users.
    match fs::write(proc_sys.join("kernel/pid_max"), order.processes.max(PID_MAX_MIN).to_string()) {
        Ok(()) => add(&["pid-max"]),
        Err(error) if geteuid_is_root_outside() => {
            return Err(format!(
                "cannot bound the number of processes of a sandbox started by root: {error}; run the daemon as an \
                 ordinary user, use Linux 6.14 or newer, or isolation \"container\""
            ));
        }
        Err(_) => {}
    }
    mounts::seal_and_enter(order)?;
    add(&["private-root", "private-home", "no-new-privs", "rlimits", "cap-drop-all"]);
    // Same user as the command's; this keeps its memory, descriptors and root directory out of reach.
    set_dumpable(false).map_err(|errno| format!("cannot protect the first process: {errno}"))
}

/// Whether uid 0 in here is root of the host. RLIMIT_NPROC does not count for it.
pub(crate) fn geteuid_is_root_outside() -> bool {
    geteuid().is_root()
        && fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|map| map.split_whitespace().nth(1) == Some("0"))
}

fn start(command: &ExecOrder) -> Result<(Pid, OrderFile), String> {
    let orders = OrderFile::create(Path::new(ORDERS), command)
        .map_err(|error| format!("cannot leave orders in the sandbox: {error}"))?;
    let child = Command::new(SELF)
        .arg("__exec")
        .arg(ORDERS)
        .env_clear()
        .stdin(Stdio::inherit())
        .spawn()
        .map_err(|error| format!("cannot start the command's stage: {error}"))?;
    let pid = i32::try_from(child.id()).map_err(|error| error.to_string())?;
    Ok((Pid::from_raw(pid), orders))
}

/// Reaps everything until the main process ended; a stop request goes to everybody.
fn supervise(main: Pid) -> (Option<i32>, Option<i32>) {
    loop {
        let mut ended = None;
        reap(|status| match status {
            WaitStatus::Exited(pid, code) if pid == main => ended = Some((Some(code), None)),
            WaitStatus::Signaled(pid, signal, _) if pid == main => ended = Some((None, Some(signal as i32))),
            _ => {}
        });
        if let Some(ended) = ended {
            return ended;
        }
        if let Ok(Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP) = watched().wait() {
            kill(Pid::from_raw(-1), Signal::SIGTERM).ok();
        }
    }
}
