//! Starts ministack, an emulator of many AWS services, for tests of any crate.

use std::{
    env, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// It starts within two seconds on an idle machine.
const DEADLINE: Duration = Duration::from_secs(90);

/// A running ministack on loopback. Stops when dropped.
#[derive(Debug)]
pub struct Ministack {
    child: Child,
    address: SocketAddr,
}

impl Ministack {
    /// Starts one. Without the program the answer is `None`, after a line on stderr that begins with `SKIPPED`: the test is
    /// over then.
    ///
    /// The program is what `PANGOLIN_MINISTACK` names, or `target/tools/emulators/bin/ministack` in the workspace.
    ///
    /// # Panics
    /// When it is not installed and `PANGOLIN_REQUIRE_EMULATORS` is `1`, and when it does not start.
    pub async fn start(what: &str) -> Option<Self> {
        let Some(program) = program() else {
            let how = "set PANGOLIN_MINISTACK, or install it: python3 -m venv target/tools/emulators && target/tools/emulators/bin/pip install ministack==1.5.33 cryptography cbor2";
            let required = env::var("PANGOLIN_REQUIRE_EMULATORS").is_ok_and(|value| value == "1");
            assert!(!required, "{what} needs ministack, which is not installed; {how}");
            #[expect(clippy::print_stderr, reason = "a skipped test says so, also where no log is written")]
            {
                eprintln!("SKIPPED {what}: ministack is not installed; {how}");
            }
            return None;
        };
        // Somebody else may take the free port in between.
        for _ in 0..3 {
            let address = free_port().unwrap_or_else(|error| panic!("no free port: {error}"));
            let mut child = spawn(&program, address.port())
                .unwrap_or_else(|error| panic!("starting {}: {error}", program.display()));
            if is_ready(&mut child, address).await {
                return Some(Self { child, address });
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("{} did not become ready", program.display());
    }

    /// URL of every service.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Option<PathBuf> {
    if let Some(path) = env::var_os("PANGOLIN_MINISTACK") {
        return Some(PathBuf::from(path));
    }
    let path =
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/emulators/bin/ministack"));
    path.exists().then_some(path)
}

fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn spawn(program: &PathBuf, port: u16) -> io::Result<Child> {
    Command::new(program)
        .env("BIND_HOST", "127.0.0.1")
        .env("GATEWAY_PORT", port.to_string())
        .env("LOG_LEVEL", "ERROR")
        .env("S3_PERSIST", "0")
        .env_remove("LOCALSTACK_PERSISTENCE")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

async fn is_ready(child: &mut Child, address: SocketAddr) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < DEADLINE {
        if !matches!(child.try_wait(), Ok(None)) {
            return false;
        }
        if health(address).await.unwrap_or(false) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

async fn health(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /_ministack/health HTTP/1.0\r\nhost: localhost\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.lines().next().is_some_and(|line| line.contains(" 200")))
}
