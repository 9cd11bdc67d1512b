//! Full disks, missing rights, leftovers and modes.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests may panic and complain")]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use pangolin_blob_fs::FsBlobStore;
use pangolin_core::ids::Digest;
use pangolin_ports::blob_store::{BlobError, BlobStore};

fn blob_path(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("sha256").join(&digest.hex()[..2]).join(digest.hex())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Past the harness, which swallows what `eprintln!` says in a test that passes.
fn not_tested(what: &str) {
    std::io::stderr().write_all(format!("NOT TESTED: {what}\n").as_bytes()).unwrap();
}

#[tokio::test]
async fn files_have_their_names_and_modes_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("deep/er");
    let store = FsBlobStore::open(&dir).unwrap();
    let digest = store.put(b"abc").await.unwrap();
    let path = blob_path(&dir, &digest);
    assert_eq!(fs::read(&path).unwrap(), b"abc");
    assert_eq!(mode(&path), 0o444);
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    // The second put of the same bytes does not touch the file.
    let before = fs::metadata(&path).unwrap();
    store.put(b"abc").await.unwrap();
    let file = dir.join("file");
    fs::write(&file, b"abc").unwrap();
    store.put_file(&file).await.unwrap();
    let after = fs::metadata(&path).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
    assert_eq!(fs::read_dir(dir.join("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn bytes_repair_a_blob_that_was_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsBlobStore::open(dir.path()).unwrap();
    let digest = store.put(b"whole").await.unwrap();
    let path = blob_path(dir.path(), &digest);
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"who").unwrap();
    assert!(matches!(store.get(&digest, 100).await, Err(BlobError::Damaged { .. })));
    store.put(b"whole").await.unwrap();
    assert_eq!(store.get(&digest, 100).await.unwrap(), b"whole");
}

#[tokio::test]
async fn bytes_repair_a_blob_with_a_changed_byte() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsBlobStore::open(dir.path()).unwrap();
    let source = dir.path().join("source");
    fs::write(&source, b"whole").unwrap();
    for by_file in [false, true] {
        let digest = store.put(b"whole").await.unwrap();
        let path = blob_path(dir.path(), &digest);
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"whale").unwrap();
        assert!(matches!(store.get(&digest, 100).await, Err(BlobError::Damaged { .. })));
        if by_file {
            store.put_file(&source).await.unwrap()
        } else {
            store.put(b"whole").await.unwrap()
        };
        assert_eq!(store.get(&digest, 100).await.unwrap(), b"whole");
    }
}

#[tokio::test]
async fn leftovers_are_removed_and_files_in_use_are_not() {
    let dir = tempfile::tempdir().unwrap();
    drop(FsBlobStore::open(dir.path()).unwrap());
    let tmp = dir.path().join("tmp");
    let old = SystemTime::now() - Duration::from_secs(3_600);
    let make = |name: &str, time: Option<SystemTime>| {
        let file = fs::File::create(tmp.join(name)).unwrap();
        if let Some(time) = time {
            file.set_modified(time).unwrap();
        }
        file
    };
    make("put-old", Some(old));
    make("put-young", None);
    make("somebody-elses", Some(old));
    let busy = make("put-busy", Some(old));
    busy.lock().unwrap();
    drop(FsBlobStore::open(dir.path()).unwrap());
    let mut left: Vec<_> = fs::read_dir(&tmp).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["put-busy", "put-young", "somebody-elses"]);
}

#[tokio::test]
async fn a_store_that_vanished_is_an_error_and_not_an_empty_store() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("blobs");
    let store = FsBlobStore::open(&dir).unwrap();
    let digest = store.put(b"abc").await.unwrap();
    fs::rename(&dir, dir.with_extension("gone")).unwrap();
    for text in [
        store.get(&digest, 10).await.unwrap_err().to_string(),
        store.size(&digest).await.unwrap_err().to_string(),
        store.put(b"more").await.unwrap_err().to_string(),
    ] {
        assert!(text.contains(&*dir.to_string_lossy()), "{text}");
    }
}

#[tokio::test]
async fn opening_below_a_file_names_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = FsBlobStore::open(file.join("blobs")).unwrap_err();
    assert!(error.to_string().contains("file/blobs"), "{error}");
}

#[tokio::test]
async fn an_unreadable_blob_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsBlobStore::open(dir.path()).unwrap();
    let digest = store.put(b"abc").await.unwrap();
    let path = blob_path(dir.path(), &digest);
    let named = |error: BlobError| {
        assert!(matches!(error, BlobError::Other { .. }), "{error:?}");
        assert!(error.to_string().contains(&digest.hex()), "{error}");
    };
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&path).is_ok() {
        not_tested("a blob without read permission, because this user may read everything");
    } else {
        named(store.get(&digest, 10).await.unwrap_err());
        named(store.copy_to(&digest, &dir.path().join("copy")).await.unwrap_err());
    }
    // Something else under the name of a blob.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    named(store.get(&digest, 10).await.unwrap_err());
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
    fs::write(dir.path().join("elsewhere"), b"abc").unwrap();
    named(store.get(&digest, 10).await.unwrap_err());
    named(store.size(&digest).await.unwrap_err());
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH) {
            eprintln!("unmounting {} failed: {error}", self.0.path().display());
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_full_and_keeps_no_garbage() {
    let dir = tempfile::tempdir().unwrap();
    let flags = nix::mount::MsFlags::empty();
    if let Err(error) = nix::mount::mount(Some("tmpfs"), dir.path(), Some("tmpfs"), flags, Some("size=1m")) {
        return not_tested(&format!("a full disk, because a tmpfs cannot be mounted here: {error}"));
    }
    let disk = SmallDisk(dir);
    let store = FsBlobStore::open(disk.0.path()).unwrap();
    let small = store.put(&[1; 300_000]).await.unwrap();
    let outside = tempfile::tempdir().unwrap();
    let large = outside.path().join("large");
    fs::write(&large, vec![2; 900_000]).unwrap();
    for answer in [store.put(&[2; 900_000]).await, store.put_file(&large).await] {
        assert!(matches!(answer, Err(BlobError::Full(_))), "{answer:?}");
        assert_eq!(fs::read_dir(disk.0.path().join("tmp")).unwrap().count(), 0, "garbage stayed");
    }
    assert_eq!(store.size(&Digest::of(&[2; 900_000])).await.unwrap(), None);
    assert_eq!(store.get(&small, 1_000_000).await.unwrap(), [1; 300_000]);
    // Copying onto the full disk: the same, and no half copy stays.
    let other = FsBlobStore::open(outside.path().join("blobs")).unwrap();
    let digest = other.put_file(&large).await.unwrap();
    let to = disk.0.path().join("copy");
    assert!(matches!(other.copy_to(&digest, &to).await, Err(BlobError::Full(_))));
    assert_eq!(fs::read_dir(disk.0.path()).unwrap().count(), 2, "a half copy stayed");
    // What fits still works.
    store.put(&[3; 300_000]).await.unwrap();
}
