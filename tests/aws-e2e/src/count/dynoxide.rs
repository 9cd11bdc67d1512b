//! DynamoDB as dynoxide emulates it: fast, and it says how many units a request takes.

use std::{
    env, io,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// It is ready within a tenth of a second on an idle machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running dynoxide on loopback. Stops when dropped.
#[derive(Debug)]
pub(super) struct Dynoxide {
    child: Child,
    port: u16,
}

impl Dynoxide {
    /// Starts what `PANGOLIN_DYNOXIDE` names, or `target/tools/emulators/bin/dynoxide` in the workspace.
    pub(super) async fn start() -> io::Result<Self> {
        let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/emulators/bin/dynoxide");
        let program =
            env::var_os("PANGOLIN_DYNOXIDE").map_or_else(|| PathBuf::from(installed), PathBuf::from);
        // Somebody else may take the free port in between.
        for _ in 0..3 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            let mut child = Command::new(&program);
            let child = child.args(["serve", "--host", "127.0.0.1", "--port", &port.to_string()]);
            let child = child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let told = |error: io::Error| {
                let how = "docs/aws-emulators.md says how to install it";
                io::Error::new(error.kind(), format!("starting {}: {error}; {how}", program.display()))
            };
            let mut dynoxide = Self { child: child.map_err(told)?, port };
            let begin = Instant::now();
            while begin.elapsed() < DEADLINE && matches!(dynoxide.child.try_wait(), Ok(None)) {
                if tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
                    return Ok(dynoxide);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Err(io::Error::other(format!("{} did not become ready", program.display())))
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Dynoxide {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
