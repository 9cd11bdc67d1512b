//! State changes, as EventBridge delivers them: at least once, in any order.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::state::{ACCOUNT, REGION};

/// Where state changes go.
#[derive(Debug, Default)]
pub(crate) struct Events {
    pub(crate) delivered: Vec<Value>,
    pub(crate) scrambled: bool,
    pub(crate) url: Option<String>,
    /// Of a scrambled pair, the older one.
    kept_back: Option<Value>,
    sent: u64,
}

impl Events {
    /// A task changed. `last` says that nothing will follow, so nothing is kept back.
    pub(crate) fn emit(&mut self, task: &Value, now_ms: i64, last: bool) {
        self.sent += 1;
        let event = json!({
            "version": "0",
            "id": format!("00000000-0000-4000-8000-{:012x}", self.sent),
            "detail-type": "ECS Task State Change",
            "source": "aws.ecs",
            "account": ACCOUNT,
            "time": now_ms,
            "region": REGION,
            "resources": [task["taskArn"]],
            "detail": task,
        });
        if !self.scrambled {
            return self.deliver(event);
        }
        match self.kept_back.take() {
            None if !last => self.kept_back = Some(event),
            older => {
                self.deliver(event.clone());
                if let Some(older) = older {
                    self.deliver(older);
                }
                self.deliver(event);
            }
        }
    }

    fn deliver(&mut self, event: Value) {
        if let (Some(url), Ok(runtime)) = (self.url.clone(), tokio::runtime::Handle::try_current()) {
            let text = event.to_string();
            // A doorbell that nobody hears is what the tick by the clock is for.
            runtime.spawn(async move { post(&url, &text).await.ok() });
        }
        self.delivered.push(event);
    }
}

async fn post(url: &str, text: &str) -> std::io::Result<()> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host).await?;
    let head = format!(
        "POST /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(())
}
