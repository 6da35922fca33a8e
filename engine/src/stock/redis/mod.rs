//! The Redis host: the scripts run in Redis or Valkey, a server alone or a cluster.
//!
//! A bucket's keys share a slot, so a bucket is at one server. Each server has lines
//! of its own, one a worker: one that stands still holds up the buckets that are at
//! it, and nobody else. What a call came to is told as it is, and a call is sent once;
//! sending it again is for who made it, byte for byte.

mod answer;
mod client;
mod line;
mod slots;
mod standing;
mod start;
mod tls;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fred::util::{redis_keyslot, sha1_hash};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::answer::Trouble;
use self::client::Settings;
use self::line::{Call, Line};
use self::slots::Slots;
use super::host::{Args, BucketRef, HostError, HostFuture, Reply, Script, StockHost};
use super::script;
use super::standing::{Holds, Meta, Tail, UsedKeys};
use crate::config::{RedisConfig, RedisServer};
use crate::workers::Workers;

/// How often one run follows a bucket to another server, or loads a script.
const HOPS_MAX: usize = 6;
/// A cluster is not asked for its slots more often than this.
const SLOTS_EVERY: Duration = Duration::from_millis(250);

struct Text {
    sha: String,
    text: String,
}

/// A server and the lines to it, one a worker.
struct Primary {
    lines: Vec<Line>,
}

/// Where buckets are, as far as is known.
#[derive(Clone, Default)]
struct Map {
    slots: Slots,
    primaries: HashMap<RedisServer, Arc<Primary>>,
}

fn sent_about() -> HostError {
    HostError::Unknown("sent from server to server".to_owned())
}

pub struct RedisHost {
    settings: Arc<Settings>,
    cluster: bool,
    /// Asked for a cluster's slots when no known primary answers.
    seeds: Vec<RedisServer>,
    scripts: [Text; Script::ALL.len()],
    map: ArcSwap<Map>,
    /// Held by who brings the map up to date; when that last happened.
    looked: Mutex<Option<Instant>>,
    workers: Arc<Workers>,
}

impl RedisHost {
    /// Looks at every server once, and refuses those that the stock cannot be trusted to.
    pub async fn connect(config: &RedisConfig, workers: Arc<Workers>) -> Result<Self, String> {
        let settings = Arc::new(Settings::new(config)?);
        let scripts = Script::ALL.map(|script| {
            let text = script::text(script);
            let sha = sha1_hash(&text);
            Text { sha, text }
        });
        let text = &scripts[0].text;
        let mut found = Err("no server is named".to_owned());
        for seed in &config.servers {
            found = start::look(&settings, seed, config.cluster, text).await;
            if found.is_ok() {
                break;
            }
        }
        let slots = found?;
        if config.cluster {
            for server in slots.primaries() {
                start::look(&settings, &server, true, text).await?;
            }
        }
        let host = Self {
            settings,
            cluster: config.cluster,
            seeds: config.servers.clone(),
            scripts,
            map: ArcSwap::default(),
            looked: Mutex::new(None),
            workers,
        };
        host.adopt(slots);
        Ok(host)
    }

    /// Takes over what a cluster said; lines to servers that stayed go on.
    fn adopt(&self, slots: Slots) {
        let known = self.map.load();
        let primaries = slots
            .primaries()
            .into_iter()
            .map(|server| {
                let primary = known.primaries.get(&server).cloned();
                let primary = primary.unwrap_or_else(|| Arc::new(self.primary(&server)));
                (server, primary)
            })
            .collect();
        self.map.store(Arc::new(Map { slots, primaries }));
    }

    fn primary(&self, server: &RedisServer) -> Primary {
        let line = |no| {
            let settings = Arc::clone(&self.settings);
            Line::open(server.clone(), settings, self.workers.get(no))
        };
        Primary {
            lines: (0..self.workers.count()).map(line).collect(),
        }
    }

    /// The server that an answer named, though the map may not.
    fn named(&self, server: &RedisServer) -> Arc<Primary> {
        let known = self.map.load();
        if let Some(primary) = known.primaries.get(server) {
            return Arc::clone(primary);
        }
        let mut map = Map::clone(&known);
        let primary = map.primaries.entry(server.clone());
        let primary = Arc::clone(primary.or_insert_with(|| Arc::new(self.primary(server))));
        self.map.store(Arc::new(map));
        primary
    }

    fn at(&self, slot: u16) -> Result<Arc<Primary>, HostError> {
        let map = self.map.load();
        let found = map.slots.primary(slot).and_then(|s| map.primaries.get(s));
        let none = || HostError::Unknown(format!("no server has slot {slot}"));
        found.cloned().ok_or_else(none)
    }

    async fn call(
        &self,
        bucket: &BucketRef,
        script: Script,
        args: &Arc<Args>,
    ) -> Result<Reply, HostError> {
        let keys = bucket.keys();
        let slot = redis_keyslot(keys[0].as_bytes());
        let text = &self.scripts[script as usize];
        let call = Call {
            sha: &text.sha,
            keys: &keys,
            args,
        };
        let mut primary = self.at(slot)?;
        let mut asking = false;
        for _ in 0..HOPS_MAX {
            let line = &primary.lines[bucket.place(primary.lines.len())];
            match line.run(&call, asking).await {
                Ok(value) => return answer::reply(value),
                Err(Trouble::NotLoaded) => line.load(&text.text).await?,
                Err(trouble) => (primary, asking) = self.follow(trouble, line).await?,
            }
        }
        Err(sent_about())
    }

    /// Where a bucket is instead, and whether to ask there as one that is let in early.
    async fn follow(
        &self,
        trouble: Trouble,
        line: &Line,
    ) -> Result<(Arc<Primary>, bool), HostError> {
        match trouble {
            Trouble::Moved(to) => {
                self.look_again(Some(&to), None).await;
                Ok((self.named(&to), false))
            }
            Trouble::Asked(to) => Ok((self.named(&to), true)),
            Trouble::Late | Trouble::Later(_) | Trouble::Elsewhere(_) => {
                // Another server may have taken over the slots of one that is gone.
                self.look_again(None, Some(&line.server)).await;
                Err(trouble.into())
            }
            Trouble::NotLoaded | Trouble::Failed(_) => Err(trouble.into()),
        }
    }

    /// Asks the cluster for its slots, unless somebody does or just did. `doubted` is
    /// asked last: it would keep us waiting.
    async fn look_again(&self, first: Option<&RedisServer>, doubted: Option<&RedisServer>) {
        if !self.cluster {
            return;
        }
        let Ok(mut looked) = self.looked.try_lock() else {
            return;
        };
        if looked.is_some_and(|at| at.elapsed() < SLOTS_EVERY) {
            return;
        }
        let map = self.map.load_full();
        let up = map.primaries.iter().filter(|(_, p)| p.lines[0].is_up());
        let known = first.into_iter().chain(up.map(|(server, _)| server));
        let mut servers: Vec<&RedisServer> = known.chain(&self.seeds).collect();
        servers.sort_by_key(|server| Some(*server) == doubted);
        for server in servers {
            match self.named(server).lines[0].slots().await {
                Ok(slots) => {
                    self.adopt(slots);
                    break;
                }
                Err(trouble) => {
                    tracing::debug!(%server, ?trouble, "ask for the cluster's slots");
                }
            }
        }
        *looked = Some(Instant::now());
    }
}

impl StockHost for RedisHost {
    fn run<'a>(
        &'a self,
        bucket: &'a BucketRef,
        script: Script,
        args: &'a Arc<Args>,
    ) -> HostFuture<'a> {
        Box::pin(self.call(bucket, script, args))
    }

    /// The server has its own tables.
    fn make_room<'a>(&'a self, _: &'a BucketRef, _: usize) -> HostFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// It outlives this process.
    fn is_second_copy(&self) -> bool {
        true
    }

    fn meta<'a>(&'a self, bucket: &'a BucketRef) -> HostFuture<'a, Option<Meta>> {
        Box::pin(self.read_meta(bucket))
    }

    fn holds<'a>(&'a self, bucket: &'a BucketRef, at: u64) -> HostFuture<'a, Holds> {
        Box::pin(self.read_holds(bucket, at))
    }

    fn used_keys<'a>(&'a self, bucket: &'a BucketRef, at: u64) -> HostFuture<'a, UsedKeys> {
        Box::pin(self.read_used_keys(bucket, at))
    }

    fn tail<'a>(&'a self, bucket: &'a BucketRef, at: u64) -> HostFuture<'a, Tail> {
        Box::pin(self.read_tail(bucket, at))
    }

    fn buckets(&self) -> HostFuture<'_, Vec<BucketRef>> {
        Box::pin(self.read_buckets())
    }

    /// The worker whose line the bucket's calls take.
    fn home(&self, bucket: &BucketRef) -> Option<Handle> {
        let place = bucket.place(self.workers.count());
        Some(self.workers.get(place).clone())
    }
}
