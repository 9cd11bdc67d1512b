//! A patch with everything git can express, made by an agent in the sandbox.

use std::{
    fs,
    io::Write as _,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::{Command, Stdio},
};

use pangolin_core::ids::Digest;
use pangolin_e2e::world::{World, item};
use serde_json::Value;

use crate::support::{self, blob};

/// Binary, symbolic link, rename, mode change, deletion, names that are no UTF-8 or need quoting, no final newline,
/// CRLF, an empty file, a file that becomes a link and a directory that becomes a file.
const AGENT: &str = r#"set -e
head -c 5000 /dev/urandom > blob.bin
printf 'a\000b\377' > nul.bin
ln -s ../outside/target link
ln -s README.md good-link
mv old-name.txt new-name.txt
chmod 755 tool.sh
chmod 644 was-exec.sh
rm gone.txt
printf 'x' > "$(printf 'na\377me')"
printf 'x\n' > "$(printf 'two\nlines')"
printf 'x\n' > 'quote" back\slash	tab'
printf 'x\n' > ' leading and trailing '
printf 'no newline' > no-newline.txt
printf 'a\r\nb\r\n' > crlf.txt
: > empty.txt
rm becomes-link && ln -s README.md becomes-link
rm -r tree && echo file > tree
mkdir -p deep/er/est && echo deep > deep/er/est/file
printf '* text=auto eol=crlf\n*.bin filter=evil\n' > .gitattributes
"#;

fn git(dir: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("git")
        .args(arguments)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("git");
    child.stdin.take().expect("stdin").write_all(input).expect("stdin");
    let output = child.wait_with_output().expect("git");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn base(world: &World) {
    let repo = world.path().join("repo");
    for (name, text) in [
        ("old-name.txt", "one\ntwo\nthree\nfour\nfive\n"),
        ("tool.sh", "#!/bin/sh\n"),
        ("was-exec.sh", "#!/bin/sh\n"),
        ("gone.txt", "going\n"),
        ("becomes-link", "a file\n"),
        ("tree/a", "a\n"),
        ("tree/b", "b\n"),
    ] {
        world.write(&format!("repo/{name}"), text);
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(repo.join("was-exec.sh"), mode).expect("mode");
    git(&repo, &["add", "--all"], b"");
    git(
        &repo,
        &["-c", "user.name=e", "-c", "user.email=e@localhost", "commit", "--quiet", "-m", "base"],
        b"",
    );
}

/// The sealed entry of the item's end.
fn reconciled(bundle: &[u8], id: &str) -> Value {
    let bundle: Value = serde_json::from_slice(bundle).expect("bundle");
    let entries = bundle["entries"].as_array().expect("entries");
    let found = entries.iter().rev().find(|entry| entry["kind"] == "item.reconciled" && entry["item"] == id);
    found.expect("the item's end").clone()
}

#[test]
fn a_patch_with_everything_is_exact_and_gives_the_sealed_tree() {
    let world = support::world();
    base(&world);
    world.agent("all", AGENT);
    world.agent(
        "then",
        "git apply --check inputs/deps/a.patch || cat inputs/deps/a.patch > /dev/null; echo more > more.txt",
    );
    let _daemon = world.serve();
    world.submit("patch-1", &[("a", "all", &[]), ("b", "then", &["a"])]);
    let run = world.finish("patch-1");
    assert_eq!(run["state"], "done", "{run:#}");
    let digest = item(&run, "a")["resultRef"].as_str().expect("patch").to_owned();

    let shown = world.run(&["patch", "show", "patch-1/a"]).ok();
    assert_eq!(Digest::of(&shown.stdout).to_string(), digest, "stdout is the sealed patch, byte for byte");
    assert_eq!(fs::read(blob(&world, &digest)).expect("blob"), shown.stdout);
    assert!(
        !shown.stderr.chars().any(|c| c.is_control() && c != '\n'),
        "the summary is calm: {:?}",
        shown.stderr
    );
    let text = shown.text();
    for part in [
        "GIT binary patch",
        "rename from old-name.txt",
        "old mode 100644",
        "new mode 100755",
        "new file mode 120000",
        "deleted file mode 100644",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let sealed = reconciled(&world.intact_bundle("patch-1"), "a");
    assert_eq!(sealed["patch"], digest.as_str());

    // Plain git on a clone, which knows nothing of Pangolin.
    let clone = world.path().join("clone");
    git(world.path(), &["clone", "--quiet", "repo", "clone"], b"");
    git(&clone, &["apply", "--index", "-"], &shown.stdout);
    let tree = String::from_utf8(git(&clone, &["write-tree"], b"")).expect("id");
    assert_eq!(sealed["tree"], tree.trim(), "the sealed tree");
    assert!(clone.join(std::ffi::OsStr::from_bytes(b"na\xffme")).is_file());
    assert_eq!(fs::read_link(clone.join("link")).expect("link"), Path::new("../outside/target"));
    assert_eq!(fs::read(clone.join("crlf.txt")).expect("crlf"), b"a\r\nb\r\n");

    // And ours, also when the files have other times than the index says, as after a copy.
    let repo = world.path().join("repo");
    for name in String::from_utf8(git(&repo, &["ls-files", "-z"], b"")).expect("UTF-8").split_terminator('\0')
    {
        if let Ok(file) = fs::File::open(repo.join(name)) {
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("times");
        }
    }
    let applied = world.run(&["patch", "apply", "patch-1/a", "--repo", "repo", "--json"]).ok().json();
    assert_eq!(applied["applied"][0]["treeMatches"], true, "{applied}");
    let tree = String::from_utf8(git(&world.path().join("repo"), &["write-tree"], b"")).expect("id");
    assert_eq!(sealed["tree"], tree.trim());
    let list = world.run(&["patch", "list", "patch-1/a", "--json"]).ok().json();
    let flags = list["patches"][0]["flags"].to_string();
    for flag in ["symlink", "executable", "binary", "git-config"] {
        assert!(flags.contains(flag), "{flag} in {flags}");
    }
    let listed = world.run(&["patch", "list", "patch-1"]).ok().text();
    assert!(!listed.chars().any(|c| c.is_control() && c != '\n'), "{listed:?}");
}

#[test]
fn the_users_git_configuration_changes_nothing() {
    let world = support::world();
    base(&world);
    world.agent("all", AGENT);
    // Whatever HOME offers, and whatever the repository itself is configured to do.
    let trap = world.path().join("trapped");
    let script = world.write("trap.sh", format!("#!/bin/sh\ntouch {}\ncat\n", trap.display()));
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    let run = script.display().to_string();
    let config = format!(
        "[core]\n\tautocrlf = true\n\tquotepath = false\n\thooksPath = {hooks}\n\tfsmonitor = {run}\n[diff]\n\tnoprefix = true\n\texternal = {run}\n\trenames = false\n[filter \"evil\"]\n\tclean = {run}\n\tsmudge = {run}\n\trequired = true\n[apply]\n\twhitespace = fix\n",
        hooks = world.path().display(),
    );
    world.write(".gitconfig", &config);
    world.write("post-checkout", format!("#!/bin/sh\ntouch {}\n", trap.display()));
    let hook = world.path().join("post-checkout");
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    let _daemon = world.serve();
    world.submit("cfg-1", &[("a", "all", &[])]);
    let run = world.finish("cfg-1");
    assert_eq!(run["state"], "done", "{run:#}");
    let shown = world.run(&["patch", "show", "cfg-1/a"]).ok();
    let sealed = reconciled(&world.intact_bundle("cfg-1"), "a");
    git(world.path(), &["clone", "--quiet", "repo", "clone"], b"");
    git(&world.path().join("clone"), &["apply", "--index", "-"], &shown.stdout);
    let tree = String::from_utf8(git(&world.path().join("clone"), &["write-tree"], b"")).expect("id");
    assert_eq!(sealed["tree"], tree.trim());
    world.run(&["patch", "apply", "cfg-1/a", "--repo", "repo"]).ok();
    assert!(!trap.exists(), "a program from the user's git configuration was run");
}
