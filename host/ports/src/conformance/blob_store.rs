//! What every [`BlobStore`] must do.

use std::{os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use pangolin_core::ids::Digest;

use super::{Outcome, Report, Violation, ensure};
use crate::blob_store::{BlobError, BlobStore};

/// Where one blob store lives.
#[async_trait]
pub trait BlobPlace: Send + Sync {
    /// Opens the store, also a second time; everything that was put before must be there.
    async fn open(&self) -> Arc<dyn BlobStore>;

    /// Changes the stored bytes of a blob behind the adapter's back.
    async fn corrupt(&self, digest: &Digest);
}

/// Makes an empty place.
pub type Fresh<'a> = dyn Fn() -> Box<dyn BlobPlace> + Send + Sync + 'a;

/// Runs all checks.
pub async fn suite(fresh: &Fresh<'_>) -> Report {
    let mut report = Report::default();
    report.run("bytes_come_back", bytes_come_back(fresh)).await;
    report.run("same_bytes_twice", same_bytes_twice(fresh)).await;
    report.run("absent_blobs_are_not_found", absent_blobs_are_not_found(fresh)).await;
    report.run("limit_is_kept", limit_is_kept(fresh)).await;
    report.run("damaged_bytes_are_never_returned", damaged_bytes_are_never_returned(fresh)).await;
    report.run("files_are_stored", files_are_stored(fresh)).await;
    report.run("only_regular_files_are_stored", only_regular_files_are_stored(fresh)).await;
    report.run("copies_are_new_files", copies_are_new_files(fresh)).await;
    report.run("large_file", large_file(fresh)).await;
    report.run("concurrent_puts", concurrent_puts(fresh)).await;
    report
}

fn samples() -> Vec<Vec<u8>> {
    vec![
        Vec::new(),
        b"x".to_vec(),
        b"line\r\nline\n\0\xff".to_vec(),
        (0..1_000_000_u32).map(|index| (index % 251) as u8).collect(),
    ]
}

fn scratch() -> Result<(tempfile::TempDir, PathBuf), Violation> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().to_path_buf();
    Ok((dir, path))
}

async fn bytes_come_back(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    for bytes in samples() {
        let digest = store.put(&bytes).await?;
        ensure!(digest == Digest::of(&bytes), "{} bytes got the digest {digest}", bytes.len());
        ensure!(store.get(&digest, u64::MAX).await? == bytes, "{} bytes came back different", bytes.len());
        ensure!(
            store.size(&digest).await? == Some(bytes.len() as u64),
            "the size of {} bytes is wrong",
            bytes.len()
        );
    }
    drop(store);
    let store = place.open().await;
    for bytes in samples() {
        ensure!(
            store.get(&Digest::of(&bytes), u64::MAX).await? == bytes,
            "{} bytes are lost or different",
            bytes.len()
        );
    }
    Ok(())
}

async fn same_bytes_twice(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let (left, right) = (place.open().await, place.open().await);
    let first = left.put(b"same").await?;
    for store in [&left, &right] {
        ensure!(store.put(b"same").await? == first, "the same bytes got another digest");
        ensure!(store.get(&first, 4).await? == b"same", "the bytes changed with the second put");
    }
    Ok(())
}

async fn absent_blobs_are_not_found(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    let digest = Digest::of(b"never put");
    ensure!(store.size(&digest).await?.is_none(), "an absent blob has a size");
    let got = store.get(&digest, 1_000).await;
    ensure!(
        matches!(&got, Err(BlobError::NotFound(name)) if *name == digest),
        "an absent blob reads as {got:?}"
    );
    let (_guard, dir) = scratch()?;
    let to = dir.join("copy");
    let copied = store.copy_to(&digest, &to).await;
    ensure!(matches!(copied, Err(BlobError::NotFound(_))), "an absent blob was copied: {copied:?}");
    ensure!(!to.exists(), "copying an absent blob left a file");
    Ok(())
}

async fn limit_is_kept(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    let digest = store.put(b"12345").await?;
    ensure!(store.get(&digest, 5).await? == b"12345", "a blob as large as the limit is refused");
    let got = store.get(&digest, 4).await;
    ensure!(
        matches!(got, Err(BlobError::TooLarge { size: 5, limit: 4, .. })),
        "a blob over the limit reads as {got:?}"
    );
    Ok(())
}

async fn damaged_bytes_are_never_returned(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let (_guard, dir) = scratch()?;
    for (index, bytes) in samples().into_iter().enumerate() {
        let store = place.open().await;
        let digest = store.put(&bytes).await?;
        // Once before the damage: an adapter may not trust what it saw earlier.
        store.get(&digest, u64::MAX).await?;
        place.corrupt(&digest).await;
        for store in [store, place.open().await] {
            let got = store.get(&digest, u64::MAX).await.map(|bytes| bytes.len());
            let named = matches!(&got, Err(BlobError::Damaged { expected, actual }) if *expected == digest && actual != expected);
            ensure!(named, "a damaged blob of {} bytes reads as {got:?}", bytes.len());
            let to = dir.join(format!("copy-{index}"));
            let copied = store.copy_to(&digest, &to).await;
            ensure!(
                matches!(copied, Err(BlobError::Damaged { .. })),
                "a damaged blob was copied: {copied:?}"
            );
            ensure!(!to.exists(), "copying a damaged blob left a file");
            let left = std::fs::read_dir(&dir)?.count();
            ensure!(left == 0, "copying a damaged blob left {left} files beside the target");
        }
    }
    Ok(())
}

async fn files_are_stored(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    let (_guard, dir) = scratch()?;
    for (index, bytes) in samples().into_iter().enumerate() {
        let path = dir.join(format!("file {index}"));
        std::fs::write(&path, &bytes)?;
        let digest = store.put_file(&path).await?;
        ensure!(digest == Digest::of(&bytes), "a file of {} bytes got the digest {digest}", bytes.len());
        ensure!(store.put_file(&path).await? == digest, "the same file got another digest");
        std::fs::write(&path, b"changed afterwards")?;
        ensure!(store.get(&digest, u64::MAX).await? == bytes, "a file came back different");
    }
    Ok(())
}

async fn only_regular_files_are_stored(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    let (_guard, dir) = scratch()?;
    let secret = dir.join("secret");
    std::fs::write(&secret, b"behind a link")?;
    let (link, dangling) = (dir.join("link"), dir.join("dangling"));
    std::os::unix::fs::symlink(&secret, &link)?;
    std::os::unix::fs::symlink(dir.join("nowhere"), &dangling)?;
    let socket = dir.join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket)?;
    for path in [&link, &dangling, &dir, &socket, &dir.join("absent")] {
        let answer = store.put_file(path).await;
        let Err(error) = answer else {
            return Err(Violation::new(format!("{} was stored as {answer:?}", path.display())));
        };
        ensure!(
            matches!(error, BlobError::Other { .. }),
            "{}: expected Other, got {error:?}",
            path.display()
        );
        let text = error.to_string();
        ensure!(
            text.contains(&*path.to_string_lossy()),
            "the error does not name {}: {text}",
            path.display()
        );
    }
    ensure!(store.size(&Digest::of(b"behind a link")).await?.is_none(), "the target of a link was stored");
    Ok(())
}

async fn copies_are_new_files(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    let (_guard, dir) = scratch()?;
    for (index, bytes) in samples().into_iter().enumerate() {
        let digest = store.put(&bytes).await?;
        let to = dir.join(format!("copy-{index}"));
        store.copy_to(&digest, &to).await?;
        ensure!(std::fs::read(&to)? == bytes, "a copy of {} bytes is different", bytes.len());
        let mode = std::fs::metadata(&to)?.permissions().mode() & 0o7777;
        ensure!(mode == 0o644, "a copy has mode {mode:o}");
        // The copy is the caller's: writing to it may not reach the store.
        std::fs::write(&to, b"mine now")?;
        ensure!(store.get(&digest, u64::MAX).await? == bytes, "writing to a copy changed the blob");
        let again = store.copy_to(&digest, &to).await;
        ensure!(matches!(again, Err(BlobError::Other { .. })), "an existing file was not refused: {again:?}");
        ensure!(std::fs::read(&to)? == b"mine now", "an existing file was overwritten");
    }
    let digest = store.put(b"x").await?;
    let (victim, link) = (dir.join("victim"), dir.join("link"));
    std::os::unix::fs::symlink(&victim, &link)?;
    ensure!(store.copy_to(&digest, &link).await.is_err(), "a copy was written over a symlink");
    ensure!(!victim.exists(), "a copy was written through a symlink");
    let names: Vec<_> = std::fs::read_dir(&dir)?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(names.len() == samples().len() + 1, "copying left other files: {names:?}");
    Ok(())
}

/// 64 MiB through a file and back.
async fn large_file(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let store = place.open().await;
    let (_guard, dir) = scratch()?;
    let path = dir.join("large");
    let bytes: Vec<u8> =
        (0..(64_u32 << 20)).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(&path, &bytes)?;
    let digest = store.put_file(&path).await?;
    ensure!(digest == Digest::of(&bytes), "a large file got the wrong digest");
    ensure!(store.size(&digest).await? == Some(bytes.len() as u64), "a large file has the wrong size");
    let to = dir.join("copy");
    store.copy_to(&digest, &to).await?;
    ensure!(std::fs::read(&to)? == bytes, "a large file came back different");
    Ok(())
}

/// Many writers of the same and of different bytes, with readers that never see half a blob.
async fn concurrent_puts(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let stores = [place.open().await, place.open().await];
    let content = |index: usize| vec![b'a' + index as u8; 50_000 + index];
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..32_usize {
        let store = Arc::clone(&stores[task % 2]);
        tasks.spawn(async move {
            let bytes = content(task % 4);
            if task < 16 {
                let digest = store.put(&bytes).await?;
                ensure!(digest == Digest::of(&bytes), "a concurrent put got the digest {digest}");
            }
            for _ in 0..20 {
                match store.get(&Digest::of(&bytes), u64::MAX).await {
                    Ok(found) => ensure!(found == bytes, "a concurrent reader got other bytes"),
                    Err(BlobError::NotFound(_)) => tokio::task::yield_now().await,
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        });
    }
    while let Some(answer) = tasks.join_next().await {
        answer??;
    }
    for index in 0..4 {
        let bytes = content(index);
        ensure!(stores[0].get(&Digest::of(&bytes), u64::MAX).await? == bytes, "a blob is missing after all");
    }
    Ok(())
}
