//! A line to one server: a connection that is made anew for as long as it is wanted.
//!
//! Each connection is a client of its own, without that client's own reconnecting: a
//! lost connection ends its client, every call on it is told at once, and the next
//! client starts with nothing of the last one. So no call is ever repeated here;
//! whoever called sends again what was not answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, ClusterInterface, MetricsInterface};
use fred::types::{ClusterHash, ConnectHandle, CustomCommand, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::answer::{Trouble, trouble};
use super::client::{Settings, WAITING_MAX};
use super::slots::Slots;
use super::start;
use crate::config::RedisServer;
use crate::stock::host::Args;

/// Before a server is tried again: this long, and up to as much more by chance, so that
/// many engines do not come back at one moment.
const RECONNECT: Duration = Duration::from_millis(100);

/// A connection that stands.
#[derive(Clone)]
struct Life {
    client: Client,
    /// Somebody found that it leads nowhere.
    cut: Arc<Notify>,
    /// Whether it has ended.
    ended: watch::Receiver<bool>,
    heard: Arc<Heard>,
}

/// Since when calls wait without any word of the server, in milliseconds since the
/// connection stood.
struct Heard {
    since: Instant,
    waiting_ms: AtomicU64,
}

/// Nobody waits.
const NOBODY: u64 = u64::MAX;

impl Heard {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(NOBODY - 1)
    }

    fn asked(&self) {
        let order = (Ordering::Relaxed, Ordering::Relaxed);
        // Somebody may be waiting already, for longer.
        let _ = self
            .waiting_ms
            .compare_exchange(NOBODY, self.now_ms(), order.0, order.1);
    }

    fn word(&self) {
        self.waiting_ms.store(NOBODY, Ordering::Relaxed);
    }

    fn silent_for(&self) -> Duration {
        let waiting = self.waiting_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.now_ms().saturating_sub(waiting))
    }
}

/// One call as it goes over a line; every copy of it is the same.
pub struct Call<'a> {
    pub sha: &'a str,
    pub keys: &'a [String; 6],
    pub args: &'a Arc<Args>,
}

impl Call<'_> {
    fn args(&self) -> impl Iterator<Item = Value> {
        self.args.pieces().map(Value::Bytes)
    }

    /// As it stands behind the word EVALSHA.
    fn words(&self) -> Vec<Value> {
        let keys = self.keys.iter().map(Value::from);
        let head = [Value::from(self.sha), Value::from(self.keys.len() as i64)];
        head.into_iter().chain(keys).chain(self.args()).collect()
    }
}

pub struct Line {
    pub server: RedisServer,
    settings: Arc<Settings>,
    life: watch::Receiver<Option<Life>>,
    keeper: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Line {
    /// On `worker`, where those are who call. The connection comes when it comes.
    pub fn open(server: RedisServer, settings: Arc<Settings>, worker: &Handle) -> Self {
        let (told, life) = watch::channel(None);
        let keeper = worker.spawn(keep(server.clone(), Arc::clone(&settings), told));
        Self {
            server,
            settings,
            life,
            keeper: keeper.abort_handle(),
        }
    }

    pub fn is_up(&self) -> bool {
        self.life.borrow().is_some()
    }

    /// Runs a script, once. With `asking` the server takes it though the bucket is
    /// still on its way there.
    pub async fn run(&self, call: &Call<'_>, asking: bool) -> Result<Value, Trouble> {
        self.ask("EVALSHA", call.words(), asking).await
    }

    /// Makes the server keep a script.
    pub async fn load(&self, text: &str) -> Result<(), Trouble> {
        let args = vec![Value::from_static_str("LOAD"), Value::from(text)];
        self.ask("SCRIPT", args, false).await.map(drop)
    }

    /// One command, once; `asking` as in [`Self::run`].
    pub async fn ask(
        &self,
        name: &'static str,
        args: Vec<Value>,
        asking: bool,
    ) -> Result<Value, Trouble> {
        self.with(async |client| {
            if !asking {
                return client.custom(word(name), args).await;
            }
            // The two go one after the other, with nothing between them.
            let both = client.pipeline();
            let () = both.custom(word("ASKING"), Vec::<Value>::new()).await?;
            let () = both.custom(word(name), args).await?;
            both.last().await
        })
        .await
    }

    /// Which server has which slots, as this one says.
    pub async fn slots(&self) -> Result<Slots, Trouble> {
        let said = self
            .with(async |client| client.cluster_slots::<Value>().await)
            .await?;
        Slots::parse(&said, &self.server)
            .ok_or_else(|| Trouble::Later("CLUSTER SLOTS has an unknown form".to_owned()))
    }

    async fn with(
        &self,
        ask: impl AsyncFnOnce(&Client) -> Result<Value, Error>,
    ) -> Result<Value, Trouble> {
        let life = self.connected().await?;
        if life.client.command_queue_len() >= WAITING_MAX {
            return Err(Trouble::Later(format!(
                "{} calls wait for {} to take them",
                WAITING_MAX, self.server
            )));
        }
        life.heard.asked();
        let mut ended = life.ended.clone();
        let answer = tokio::select! {
            answer = ask(&life.client) => answer,
            // Whatever waits in a client that has ended would wait until it is late.
            _ = ended.wait_for(|ended| *ended) => {
                return Err(Trouble::Later(format!("the connection to {} was lost", self.server)));
            }
        };
        let trouble = match answer {
            Ok(value) => {
                life.heard.word();
                return Ok(value);
            }
            Err(error) => trouble(&error, &self.server),
        };
        match &trouble {
            Trouble::Late if life.heard.silent_for() >= self.settings.limits.silent => {
                life.cut.notify_one();
            }
            Trouble::Elsewhere(_) => life.cut.notify_one(),
            Trouble::Late | Trouble::Later(_) => {}
            Trouble::NotLoaded | Trouble::Moved(_) | Trouble::Asked(_) | Trouble::Failed(_) => {
                life.heard.word();
            }
        }
        Err(trouble)
    }

    /// The connection that stands, or the next one, if it comes in time for a call.
    async fn connected(&self) -> Result<Life, Trouble> {
        let mut life = self.life.clone();
        let stands = life.wait_for(Option::is_some);
        match tokio::time::timeout(self.settings.limits.call, stands).await {
            Ok(Ok(life)) => Ok(Option::clone(&life).expect("waited for one that is there")),
            Ok(Err(_)) => Err(Trouble::Later("the line was closed".to_owned())),
            Err(_) => Err(Trouble::Later(format!("no connection to {}", self.server))),
        }
    }
}

/// A command by its name. Where it goes is not for the client to say.
fn word(name: &'static str) -> CustomCommand {
    CustomCommand::new_static(name, ClusterHash::FirstKey, false)
}

/// Ends the client's own task with the value; nothing else would while it stands still.
struct Running(ConnectHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes one connection after the other.
async fn keep(server: RedisServer, settings: Arc<Settings>, told: watch::Sender<Option<Life>>) {
    let mut said = None;
    loop {
        let client = settings.client(&server);
        match client.init().await {
            Ok(running) => {
                said = None;
                tracing::info!(%server, "connected to a stock server");
                // Another server may stand behind the name by now. Its buckets are still
                // held against the ledger's facts; who runs it must know all the same.
                if let Ok(Some(policy)) = start::policy(&client).await
                    && policy != start::KEEPS_ALL
                {
                    tracing::error!(%server, policy, "the stock server may throw keys away");
                }
                let why = live(client, Running(running), &told).await;
                told.send_replace(None);
                tracing::warn!(%server, why, "lost a stock server");
            }
            Err(error) => {
                // Once for each reason, not ten times a second.
                let error = error.to_string();
                if said.as_ref() != Some(&error) {
                    tracing::warn!(%server, error, "connect to a stock server; trying again");
                    said = Some(error);
                }
            }
        }
        let more = fastrand::u64(..=RECONNECT.as_millis() as u64);
        tokio::time::sleep(RECONNECT + Duration::from_millis(more)).await;
    }
}

/// Shows a connection around until it ends, and says why it did.
async fn live(client: Client, mut running: Running, told: &watch::Sender<Option<Life>>) -> String {
    let (ending, ended) = watch::channel(false);
    let cut = Arc::new(Notify::new());
    let heard = Heard {
        since: Instant::now(),
        waiting_ms: AtomicU64::new(NOBODY),
    };
    told.send_replace(Some(Life {
        client,
        cut: Arc::clone(&cut),
        ended,
        heard: Arc::new(heard),
    }));
    let why = tokio::select! {
        end = &mut running.0 => match end {
            Ok(Ok(())) => "it was closed".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        },
        () = cut.notified() => "it is given up: silent, or not where the stock is".to_owned(),
    };
    drop(running);
    ending.send_replace(true);
    why
}
