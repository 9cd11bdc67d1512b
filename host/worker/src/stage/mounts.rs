//! The file system of the sandbox: an empty root with read-only system directories, a private home and `/tmp`, a
//! minimal `/dev`, its own `/proc`, and the workspace at its own path.

use std::{
    fs::{self, OpenOptions},
    os::unix::{
        ffi::OsStringExt,
        fs::{MetadataExt, symlink},
    },
    path::{Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::{chdir, pivot_root},
};

use super::{HOME, SANDBOX_ID, SandboxOrder, init::geteuid_is_root_outside};

/// System directories that commands may read, where they exist.
const SYSTEM: [&str; 10] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix"];

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Parts of `/proc` that change or show the host when the sandbox was started by root.
const PROC_READ_ONLY: [&str; 7] = ["sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi"];
const PROC_MASKED: [&str; 8] =
    ["kcore", "kmsg", "keys", "key-users", "timer_list", "sched_debug", "kpagecount", "kpageflags"];

const NONE: Option<&str> = None;

enum Step {
    ReadOnly,
    Home,
    Workspace,
    Tmpfs { bytes: u64 },
    Hide,
}

/// Mounts everything below `order.root`, except what [`seal_and_enter`] does.
pub(crate) fn build(order: &SandboxOrder) -> Result<(), String> {
    let root = &order.root;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .map_err(|e| failed("make private", Path::new("/"), e))?;
    tmpfs(root, 16 << 20, 0o755)?;
    devices(root)?;
    let mut steps: Vec<(PathBuf, Step)> = vec![
        (PathBuf::from("/tmp"), Step::Tmpfs { bytes: order.tmp_bytes }),
        (PathBuf::from("/var/tmp"), Step::Tmpfs { bytes: order.tmp_bytes }),
        (PathBuf::from("/run"), Step::Tmpfs { bytes: 16 << 20 }),
        (PathBuf::from(HOME), Step::Home),
        (order.workspace.clone(), Step::Workspace),
    ];
    steps.extend(SYSTEM.iter().map(|path| (PathBuf::from(path), Step::ReadOnly)));
    steps.extend(order.read_only.iter().map(|path| (path.clone(), Step::ReadOnly)));
    steps.extend(resolver().into_iter().filter(|_| !order.no_network).map(|path| (path, Step::ReadOnly)));
    steps.extend(order.hidden.iter().map(|path| (path.clone(), Step::Hide)));
    // Outer paths first, so that what is hidden inside of something visible stays hidden, and the workspace shows
    // even when a directory around it does not.
    steps.sort_by_key(|(path, _)| path.components().count());
    for (path, step) in &steps {
        let inside = below(root, path);
        match step {
            Step::ReadOnly => read_only(root, path)?,
            Step::Home => bind(&order.home, &inside)?,
            Step::Workspace => {
                bind(&order.workspace, &inside)?;
                restrict(&inside, MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
            }
            Step::Tmpfs { bytes } => {
                make_directory(&inside)?;
                tmpfs(&inside, *bytes, 0o1777)?;
            }
            Step::Hide if inside.is_dir() => tmpfs(&inside, 4096, 0o555)?,
            Step::Hide => {}
        }
    }
    for path in &order.workspace_read_only {
        let inside = below(root, path);
        bind(path, &inside)?;
        restrict(&inside, MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
    }
    accounts(root)?;
    if geteuid_is_root_outside() {
        mask_private_settings(root)?;
    }
    let proc = root.join("proc");
    make_directory(&proc)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), &proc, Some("proc"), flags, NONE).map_err(|errno| {
        format!("cannot mount /proc in the sandbox: {errno}; inside a container use isolation \"container\" or \"none\"")
    })
}

/// Closes `/proc`, makes the new root the only one and forbids writing to it.
pub(crate) fn seal_and_enter(order: &SandboxOrder) -> Result<(), String> {
    let root = &order.root;
    for name in PROC_READ_ONLY {
        let path = root.join("proc").join(name);
        if path.exists() {
            bind(&path, &path)?;
            restrict(&path, MsFlags::MS_RDONLY)?;
        }
    }
    for name in PROC_MASKED {
        let path = root.join("proc").join(name);
        if path.exists() {
            bind(&root.join("dev/null"), &path)?;
        }
    }
    chdir(root).map_err(|errno| failed("enter", root, errno))?;
    // The old root lands on top of the new one and is taken away (pivot_root(2), "." twice).
    pivot_root(".", ".").map_err(|errno| failed("pivot to", root, errno))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(|errno| failed("detach the old root under", root, errno))?;
    chdir("/").map_err(|errno| failed("enter", Path::new("/"), errno))?;
    let flags =
        MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    for path in ["/", "/dev"] {
        mount(NONE, path, NONE, flags, NONE)
            .map_err(|errno| failed("make read-only", Path::new(path), errno))?;
    }
    Ok(())
}

fn failed(what: &str, path: &Path, errno: nix::Error) -> String {
    format!("cannot {what} {} in the sandbox: {errno}", path.display())
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn make_directory(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path)
        .map_err(|error| format!("cannot make {} in the sandbox: {error}", path.display()))
}

fn tmpfs(path: &Path, bytes: u64, mode: u32) -> Result<(), String> {
    let data = format!("size={bytes},nr_inodes=100k,mode={mode:o}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(data.as_str()))
        .map_err(|errno| failed("mount tmpfs on", path, errno))
}

/// Binds `source` with everything below it to `target`, which is made when it is missing.
fn bind(source: &Path, target: &Path) -> Result<(), String> {
    let is_dir = source
        .metadata()
        .map_err(|error| format!("{} cannot be shown in the sandbox: {error}", source.display()))?
        .is_dir();
    if is_dir {
        make_directory(target)?;
    } else if !target.exists() {
        if let Some(parent) = target.parent() {
            make_directory(parent)?;
        }
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(target)
            .map_err(|error| format!("cannot make {} in the sandbox: {error}", target.display()))?;
    }
    // Recursive, because mounts inherited from the host are locked together.
    mount(Some(source), target, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
        .map_err(|errno| failed("bind", target, errno))
}

fn read_only(root: &Path, path: &Path) -> Result<(), String> {
    let inside = below(root, path);
    match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(meta) if meta.is_symlink() && SYSTEM.iter().any(|system| path == Path::new(system)) => {
            // `/bin -> usr/bin` of merged-usr systems.
            let target = fs::read_link(path).map_err(|error| format!("{}: {error}", path.display()))?;
            symlink(&target, &inside)
                .map_err(|error| format!("cannot link {} in the sandbox: {error}", path.display()))
        }
        Ok(_) => {
            bind(path, &inside)?;
            restrict(&inside, MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV)
        }
    }
}

/// Adds flags to the mount at `path` and every mount below it. Flags that are there are kept: taking one away from
/// an inherited mount is refused by the kernel.
fn restrict(path: &Path, more: MsFlags) -> Result<(), String> {
    let table =
        fs::read("/proc/self/mountinfo").map_err(|error| format!("cannot read the mount table: {error}"))?;
    let mut found = false;
    for line in table.split(|byte| *byte == b'\n') {
        // proc_pid_mountinfo(5): id, parent, device, root, mount point, options, ...
        let mut fields = line.split(|byte| *byte == b' ');
        let (Some(point), Some(options)) = (fields.nth(4), fields.next()) else { continue };
        let point = PathBuf::from(std::ffi::OsString::from_vec(unescape(point)));
        if !point.starts_with(path) {
            continue;
        }
        found = found || point == path;
        let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | more;
        for option in options.split(|byte| *byte == b',') {
            flags |= match option {
                b"ro" => MsFlags::MS_RDONLY,
                b"nosuid" => MsFlags::MS_NOSUID,
                b"nodev" => MsFlags::MS_NODEV,
                b"noexec" => MsFlags::MS_NOEXEC,
                b"noatime" => MsFlags::MS_NOATIME,
                b"nodiratime" => MsFlags::MS_NODIRATIME,
                b"relatime" => MsFlags::MS_RELATIME,
                _ => MsFlags::empty(),
            };
        }
        mount(NONE, &point, NONE, flags, NONE).map_err(|errno| failed("restrict", &point, errno))?;
    }
    if found {
        Ok(())
    } else {
        Err(format!("{} is missing in the mount table of the sandbox", path.display()))
    }
}

/// Undoes the octal escapes of the mount table.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

fn devices(root: &Path) -> Result<(), String> {
    let dev = root.join("dev");
    make_directory(&dev)?;
    tmpfs(&dev, 64 << 10, 0o755)?;
    for name in DEVICES {
        let source = Path::new("/dev").join(name);
        if source.exists() {
            bind(&source, &dev.join(name))?;
        } else if name == "null" {
            return Err("/dev/null does not exist on this machine".to_owned());
        }
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    for (name, target) in links {
        symlink(target, dev.join(name))
            .map_err(|error| format!("cannot link /dev/{name} in the sandbox: {error}"))?;
    }
    let shm = dev.join("shm");
    make_directory(&shm)?;
    tmpfs(&shm, 256 << 20, 0o1777)
}

/// The file behind `/etc/resolv.conf`, when it is a link to a place that is not visible.
fn resolver() -> Option<PathBuf> {
    let file = fs::canonicalize("/etc/resolv.conf").ok()?;
    (!SYSTEM.iter().any(|system| file.starts_with(system))).then_some(file)
}

/// Names for the ids inside: programs that ask for their own user must not fail.
fn accounts(root: &Path) -> Result<(), String> {
    let run = root.join("run");
    let nobody = 65534;
    let files = [
        (
            "passwd",
            format!(
                "root:x:0:0:root:/root:/bin/sh\nagent:x:{SANDBOX_ID}:{SANDBOX_ID}:agent:{HOME}:/bin/sh\n\
                 nobody:x:{nobody}:{nobody}:nobody:/:/bin/false\n"
            ),
        ),
        ("group", format!("root:x:0:\nagent:x:{SANDBOX_ID}:\nnogroup:x:{nobody}:\n")),
    ];
    for (name, text) in files {
        let target = root.join("etc").join(name);
        if !target.is_file() {
            continue;
        }
        let source = run.join(format!(".{name}"));
        fs::write(&source, text).map_err(|error| format!("cannot write {name} in the sandbox: {error}"))?;
        bind(&source, &target)?;
        restrict(&target, MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
    }
    Ok(())
}

/// Root may read everything in /etc; a command started by root's worker may read what anybody may.
fn mask_private_settings(root: &Path) -> Result<(), String> {
    let mut next = vec![root.join("etc")];
    while let Some(directory) = next.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let path = entry.path();
            if meta.is_dir() && meta.mode() & 0o005 != 0o005 {
                tmpfs(&path, 4096, 0o555)?;
            } else if meta.is_dir() {
                next.push(path);
            } else if meta.is_file() && meta.mode() & 0o004 == 0 {
                bind(&root.join("dev/null"), &path)?;
            }
        }
    }
    Ok(())
}
