//! Emulators of DynamoDB, each started for one test on a free port of the loopback interface and stopped by its handle.

#![allow(dead_code, reason = "every test file uses another part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::{
    env,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::Client;
use pangolin_aws::{Aws, Service, faults::FaultScript};
use pangolin_s3_fake::Ministack;
use pangolin_store_dynamodb::{DynamoRunStore, Retry, create_table};

/// Dynoxide is ready within a tenth of a second on an idle machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Retries without pauses worth mentioning.
pub(crate) const QUICK: Retry =
    Retry { tries: 6, first_pause: Duration::from_micros(100), longest_pause: Duration::from_millis(1) };

pub(crate) enum Emulator {
    Dynoxide(Dynoxide),
    Ministack(Ministack),
}

/// A running dynoxide.
///
/// It is a program and not a library here: its SQLite and that of `pangolin-store-sqlite` cannot be in one build.
pub(crate) struct Dynoxide {
    child: Child,
    port: u16,
}

impl Drop for Dynoxide {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Emulator {
    /// Starts dynoxide: what `PANGOLIN_DYNOXIDE` names, or `target/tools/emulators/bin/dynoxide` in the workspace. `None`
    /// when it is not installed, after a line that says so.
    pub(crate) async fn dynoxide(what: &str) -> Option<Self> {
        let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/emulators/bin/dynoxide");
        let program = env::var_os("PANGOLIN_DYNOXIDE").map(PathBuf::from);
        let program = program.or_else(|| Some(PathBuf::from(installed)).filter(|path| path.exists()));
        let Some(program) = program else {
            let how = "set PANGOLIN_DYNOXIDE, or install it: cargo install dynoxide-rs --version =3.2.0 --locked --no-default-features --features native-sqlite,http-server,cli --root target/tools/emulators";
            let required = env::var("PANGOLIN_REQUIRE_EMULATORS").is_ok_and(|value| value == "1");
            assert!(!required, "{what} needs dynoxide, which is not installed; {how}");
            #[expect(clippy::print_stderr, reason = "a skipped test says so, also where no log is written")]
            {
                eprintln!("SKIPPED {what}: dynoxide is not installed; {how}");
            }
            return None;
        };
        // Somebody else may take the free port in between.
        for _ in 0..3 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let mut child = Command::new(&program);
            let child = child.args(["serve", "--host", "127.0.0.1", "--port", &port.to_string()]);
            let child = child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut dynoxide = Dynoxide { child: child.unwrap(), port };
            let begin = Instant::now();
            while begin.elapsed() < DEADLINE && matches!(dynoxide.child.try_wait(), Ok(None)) {
                if tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
                    return Some(Self::Dynoxide(dynoxide));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        panic!("{} did not become ready", program.display());
    }

    pub(crate) async fn ministack(what: &str) -> Option<Self> {
        Ministack::start(what).await.map(Self::Ministack)
    }

    pub(crate) fn endpoint(&self) -> String {
        match self {
            Self::Dynoxide(dynoxide) => format!("http://127.0.0.1:{}", dynoxide.port),
            Self::Ministack(ministack) => ministack.endpoint(),
        }
    }

    /// A client that follows a script.
    pub(crate) fn client(&self, script: &FaultScript) -> Client {
        client(&self.endpoint(), script)
    }

    /// A new table.
    pub(crate) async fn table(&self) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("ledger-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        create_table(&self.client(&FaultScript::new()), &name).await.unwrap();
        name
    }

    /// A store on a table, with a script between it and the emulator.
    pub(crate) async fn store(&self, table: &str, script: &FaultScript) -> DynamoRunStore {
        DynamoRunStore::open(&self.client(script), table, QUICK).await.unwrap()
    }
}

pub(crate) fn client(endpoint: &str, script: &FaultScript) -> Client {
    // The store makes no use of the SDK's own attempts; were it to, the counts of calls in the tests would show it.
    let aws = Aws::for_tests(endpoint, 5, script.around(Aws::http())).unwrap();
    Client::new(&aws.sdk(Service::DynamoDb))
}
