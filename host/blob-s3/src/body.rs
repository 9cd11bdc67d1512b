//! An open file as the body of a request.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::file::CHUNK;

/// The first `size` bytes of the file, for one request and its repetitions. It is the open file that is read and not its
/// name again; whether the content is still the one that was hashed is checked by S3.
pub(crate) fn of_file(file: Arc<File>, size: u64) -> ByteStream {
    ByteStream::new(SdkBody::retryable(move || {
        SdkBody::from_body_1_x(FileBody::start(Arc::clone(&file), size))
    }))
}

struct FileBody {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
}

impl FileBody {
    fn start(file: Arc<File>, size: u64) -> Self {
        let (sender, chunks) = mpsc::channel(2);
        tokio::task::spawn_blocking(move || {
            let mut at = 0;
            while at < size {
                let wanted = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK);
                let mut chunk = vec![0; wanted];
                let read = file.read_exact_at(&mut chunk, at).map(|()| Bytes::from(chunk));
                let failed = read.is_err();
                // A closed channel: the request is over.
                if sender.blocking_send(read).is_err() || failed {
                    return;
                }
                at += wanted as u64;
            }
        });
        Self { chunks, left: size }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.chunks.poll_recv(cx).map(|chunk| {
            // The reader ends early only with an error before.
            let chunk = chunk.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
            Some(chunk.map(|bytes| {
                self.left = self.left.saturating_sub(bytes.len() as u64);
                Frame::data(bytes)
            }))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
