//! Compiling in a bounded child process. A compiler that reads hostile bytes may need minutes, gigabytes or crash; the
//! engine's makers call none of that a vulnerability. So the daemon starts itself with a hidden argument, gives the
//! child limits that it cannot raise, no environment and an empty directory, and reads native code from its stdout.

use std::{
    ffi::OsString,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use std::os::{
    fd::AsFd,
    unix::process::{CommandExt, ExitStatusExt},
};

use crate::{
    engine::{Profile, engine_id},
    failure::{Failure, GUEST_TEXT_BYTES, clip},
    processor::Processor,
};

/// Name of the hidden subcommand by which a program offers [`compile_main`](crate::compile_main).
pub const COMPILE_COMMAND: &str = "__compile-plugin";

/// Exit status of a child that found the component wanting; its stderr says why.
pub(crate) const EXIT_INVALID: u8 = 3;

/// Largest compiled file in bytes: a 20 MB component becomes about 70 MB of code.
pub(crate) const CODE_BYTES_MAX: u64 = 256 << 20;

/// What every ELF file starts with; compiled code is one.
const ELF: &[u8; 4] = b"\x7fELF";

/// Who compiles.
#[derive(Debug, Clone)]
pub enum Compiler {
    /// A child process with limits. The default, with this very program.
    Child(CompileCommand),
    /// This process, without limits. For tests and benchmarks of trusted components only; nothing falls back to it.
    #[cfg(feature = "compile")]
    InProcess,
    /// Nobody: what is not in the cache fails with `not-compiled`. For Lambdas.
    Never,
}

impl Default for Compiler {
    fn default() -> Self {
        Self::Child(CompileCommand::this_program())
    }
}

/// How to start a program that calls [`compile_main`](crate::compile_main), and its limits.
#[derive(Debug, Clone)]
pub struct CompileCommand {
    /// The program; absolute.
    pub program: PathBuf,
    /// Arguments before those of the protocol, e.g. [`COMPILE_COMMAND`].
    pub arguments: Vec<OsString>,
    /// Limits.
    pub limits: CompileLimits,
}

impl CompileCommand {
    /// The running program with the hidden subcommand [`COMPILE_COMMAND`]. It is found by the kernel's own link, so it
    /// is this version of the program even when the file was replaced meanwhile.
    #[must_use]
    pub fn this_program() -> Self {
        Self {
            program: "/proc/self/exe".into(),
            arguments: vec![COMPILE_COMMAND.into()],
            limits: CompileLimits::default(),
        }
    }
}

/// Limits of one compilation. Time and space grow with the component: an interpreter of 12 MB is honest work, a
/// component of 60 KB that needs as much is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space in bytes: fixed part, program text included.
    pub memory_base: u64,
    /// Address space in bytes per byte of the component.
    pub memory_per_byte: u64,
    /// Processor seconds: fixed part.
    pub cpu_base_seconds: u64,
    /// Processor seconds per MiB of the component.
    pub cpu_per_mib_seconds: u64,
    /// Wall time as a multiple of the processor time: the machine has other work.
    pub wall_per_cpu: u64,
    /// Bytes of native code.
    pub code_bytes: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            memory_base: 1 << 30,
            memory_per_byte: 192,
            cpu_base_seconds: 30,
            cpu_per_mib_seconds: 20,
            wall_per_cpu: 6,
            code_bytes: CODE_BYTES_MAX,
        }
    }
}

impl CompileLimits {
    fn memory(&self, component: usize) -> u64 {
        self.memory_base.saturating_add(self.memory_per_byte.saturating_mul(component as u64))
    }

    fn cpu_seconds(&self, component: usize) -> u64 {
        let mib = (component as u64).div_ceil(1 << 20);
        self.cpu_base_seconds.saturating_add(self.cpu_per_mib_seconds.saturating_mul(mib))
    }

    fn wall(&self, component: usize) -> Duration {
        Duration::from_secs(self.cpu_seconds(component).saturating_mul(self.wall_per_cpu))
    }
}

/// How a child ended.
struct Ended {
    status: ExitStatus,
    late: bool,
    code: Vec<u8>,
    code_over: bool,
    words: String,
}

/// Native code of a component. `scratch` is where the child's empty directory is made.
pub(crate) fn in_child(
    command: &CompileCommand,
    processor: Processor,
    profile: Profile,
    wasm: &[u8],
    scratch: &Path,
) -> Result<Vec<u8>, Failure> {
    let limits = &command.limits;
    let (memory, cpu, wall) =
        (limits.memory(wasm.len()), limits.cpu_seconds(wasm.len()), limits.wall(wasm.len()));
    let host_error = |what: &str, error: &dyn std::fmt::Display| Failure::HostError {
        problem: format!("{what} {}: {error}", command.program.display()),
    };
    let dir = EmptyDir::make(scratch)
        .map_err(|error| host_error("no directory for the plugin compiler", &error))?;
    let child = Command::new(&command.program)
        .args(&command.arguments)
        .args([processor.name(), profile.name(), &memory.to_string(), &cpu.to_string()])
        .env_clear()
        .current_dir(&dir.0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: whatever it starts ends with it.
        .process_group(0)
        .spawn()
        .map_err(|error| host_error("cannot start the plugin compiler", &error))?;
    let ended = supervise(child, wasm, wall, limits.code_bytes)
        .map_err(|error| host_error("lost the plugin compiler", &error))?;
    let problem = match problem(&ended, memory, cpu, wall, limits.code_bytes) {
        Some(problem) => problem,
        None if ended.code.starts_with(ELF) => return Ok(ended.code),
        None => {
            return Err(Failure::HostError {
                problem: format!(
                    "{} {} answered without native code; a program that loads plugins must call compile_main",
                    command.program.display(),
                    command.arguments.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "),
                ),
            });
        }
    };
    let next = if ended.status.code() == Some(EXIT_INVALID.into()) {
        "check the file with `wasm-tools validate`"
    } else {
        "an honest component of this size compiles within these limits; report it to the plugin's author"
    };
    Err(not_compiled(profile, problem, next))
}

pub(crate) fn not_compiled(profile: Profile, problem: String, next: &str) -> Failure {
    Failure::NotCompiled { problem, engine: format!("{}, {}", engine_id(), profile.id()), next: next.into() }
}

/// What stopped the child; `None` when nothing did.
fn problem(ended: &Ended, memory: u64, cpu: u64, wall: Duration, code_max: u64) -> Option<String> {
    if ended.late {
        return Some(format!("compiling took longer than {} s", wall.as_secs()));
    }
    if ended.code_over {
        return Some(format!("its native code is larger than {code_max} bytes"));
    }
    let words = ended.words.trim();
    match (ended.status.code(), ended.status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) if code == i32::from(EXIT_INVALID) => Some(words.to_owned()),
        (_, Some(signal)) if signal == Signal::SIGXCPU as i32 => {
            Some(format!("compiling used more than {cpu} s of processor time"))
        }
        _ if words.contains("memory allocation of") || words.contains("Cannot allocate memory") => {
            Some(format!("compiling needed more than {memory} bytes of address space"))
        }
        (_, Some(signal)) => {
            let name = Signal::try_from(signal).map_or("signal", Signal::as_str);
            Some(format!("the compiler crashed with {name} ({signal}): {words}"))
        }
        (code, None) => Some(format!("the compiler ended with status {}: {words}", code.unwrap_or(-1))),
    }
}

fn supervise(mut child: Child, wasm: &[u8], wall: Duration, code_max: u64) -> std::io::Result<Ended> {
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let closed = || std::io::Error::other("a pipe is missing");
    let (Some(mut stdin), Some(stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(closed());
    };
    let deadline = Instant::now() + wall;
    // The pipe has a write end in the child only; its end is what the loop waits for.
    let mut code = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A child that ends early closes the pipe; its status says why.
            let _ = stdin.write_all(wasm);
        });
        let words = scope.spawn(move || {
            let mut words = Vec::new();
            let _ = stderr.by_ref().take(GUEST_TEXT_BYTES as u64).read_to_end(&mut words);
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            words
        });
        let read = read_until(stdout, &mut code, deadline, code_max);
        let (late, code_over) = match &read {
            Ok(end) => (*end == End::Late, *end == End::TooMuch),
            Err(_) => (false, false),
        };
        if late || code_over || read.is_err() {
            let _ = killpg(group, Signal::SIGKILL);
        }
        // It closed its stdout, so it is about to end; if it is not, it may as well be stopped now.
        let status = wait(&mut child, deadline, group);
        // Descendants that kept a pipe open.
        let _ = killpg(group, Signal::SIGKILL);
        let words = words.join().unwrap_or_default();
        read?;
        let (status, late_end) = status?;
        Ok(Ended {
            status,
            late: late || late_end,
            code: std::mem::take(&mut code),
            code_over,
            words: clip(String::from_utf8_lossy(&words).into_owned(), GUEST_TEXT_BYTES),
        })
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Late,
    TooMuch,
}

fn millis_until(deadline: Instant) -> Option<PollTimeout> {
    let left = deadline.checked_duration_since(Instant::now())?;
    // Rounded up, so that the deadline has passed when `poll` returns.
    let millis = u32::try_from(left.as_millis().saturating_add(1)).unwrap_or(u32::MAX);
    Some(PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX))
}

fn read_until(
    mut from: impl Read + AsFd,
    into: &mut Vec<u8>,
    deadline: Instant,
    max: u64,
) -> std::io::Result<End> {
    let mut piece = vec![0; 64 << 10];
    loop {
        let Some(timeout) = millis_until(deadline) else { return Ok(End::Late) };
        let ready = poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], timeout);
        match ready {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let read = from.read(&mut piece)?;
        if read == 0 {
            return Ok(End::Closed);
        }
        if into.len() as u64 + read as u64 > max {
            return Ok(End::TooMuch);
        }
        into.extend_from_slice(&piece[..read]);
    }
}

/// Status, and whether it had to be stopped at the deadline.
fn wait(child: &mut Child, deadline: Instant, group: Pid) -> std::io::Result<(ExitStatus, bool)> {
    let mut late = false;
    if child.try_wait()?.is_none() {
        let pid = rustix::process::Pid::from_child(child);
        let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        loop {
            let Some(timeout) = millis_until(deadline) else {
                late = true;
                let _ = killpg(group, Signal::SIGKILL);
                break;
            };
            match poll(&mut [PollFd::new(handle.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
                Ok(_) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok((child.wait()?, late))
}

/// A directory that goes away with its owner.
struct EmptyDir(PathBuf);

impl EmptyDir {
    fn make(parent: &Path) -> std::io::Result<Self> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("compile.{}.{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::path::absolute(parent)?.join(name);
        match std::fs::create_dir(&path) {
            // Left by a process that had this id before and was killed.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                std::fs::remove_dir_all(&path)?;
                std::fs::create_dir(&path)?;
            }
            made => made?,
        }
        Ok(Self(path))
    }
}

impl Drop for EmptyDir {
    fn drop(&mut self) {
        // The child cannot write, but it can create.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
