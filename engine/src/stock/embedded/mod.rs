//! The embedded host: the same scripts, in-process.
//!
//! Each worker's thread has a shard: one Lua 5.1 VM with its own keys. A bucket
//! always lives on the same shard, so a script is alone with its bucket, as in
//! Redis. Nothing is kept on disk: the ledger is the truth, and buckets are
//! rebuilt from it at start.
//!
//! A bucket's desk runs on the same worker: a call is then a function call. From
//! any other thread it is a task sent over.

mod keyspace;
mod shard;
mod vm;

use std::sync::Arc;

use tokio::runtime::Handle;

use self::keyspace::Fields;
pub use self::keyspace::Keyspace;
use self::shard::Shard;
pub use self::vm::Vm;
use super::host::{Args, BucketRef, HostError, HostFuture, Script, StockHost};
use crate::workers::Workers;

#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// Per VM, for what the scripts themselves use.
    pub vm_bytes_max: usize,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            vm_bytes_max: 256 << 20,
        }
    }
}

pub struct EmbeddedHost {
    shards: Vec<Shard>,
    /// They run as long as the host is there.
    _workers: Arc<Workers>,
}

impl EmbeddedHost {
    /// With a worker of its own, for whoever serves nothing else.
    pub fn start(config: &EmbeddedConfig) -> Result<Self, String> {
        Self::on(Arc::new(Workers::start(1)?), config)
    }

    /// One shard on each worker.
    pub fn on(workers: Arc<Workers>, config: &EmbeddedConfig) -> Result<Self, String> {
        let shards = (0..workers.count())
            .map(|no| Shard::start(workers.get(no), config.vm_bytes_max))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            shards,
            _workers: workers,
        })
    }

    fn shard(&self, bucket: &BucketRef) -> &Shard {
        &self.shards[bucket.place(self.shards.len())]
    }
}

impl StockHost for EmbeddedHost {
    fn run<'a>(
        &'a self,
        bucket: &'a BucketRef,
        script: Script,
        args: &'a Arc<Args>,
    ) -> HostFuture<'a> {
        Box::pin(async move {
            let shard = self.shard(bucket);
            if shard.is_here() {
                return shard::run_here(bucket, script, args);
            }
            let (bucket, args) = (bucket.clone(), Arc::clone(args));
            shard
                .spawn(async move { shard::run_here(&bucket, script, &args) })
                .await
        })
    }

    /// The maps are made on a thread that may block, not where other sales go on.
    fn make_room<'a>(&'a self, bucket: &'a BucketRef, orders: usize) -> HostFuture<'a, ()> {
        Box::pin(async move {
            let [_, _, of_orders, of_users, ..] = bucket.keys();
            let rooms = [of_orders, of_users].map(|key| {
                let room = tokio::task::spawn_blocking(move || Fields::roomy(orders + 1));
                (key, room)
            });
            for (key, room) in rooms {
                let fields = room.await.map_err(|e| HostError::Unknown(e.to_string()))?;
                self.shard(bucket)
                    .spawn(async move { shard::room_here(&key, fields) })
                    .await?;
            }
            Ok(())
        })
    }

    /// It ends with the process and is rebuilt from the ledger.
    fn is_second_copy(&self) -> bool {
        false
    }

    fn home(&self, bucket: &BucketRef) -> Option<Handle> {
        Some(self.shard(bucket).worker().clone())
    }
}
