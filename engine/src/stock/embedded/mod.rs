//! The embedded host: the same scripts, in-process.
//!
//! Each shard is one thread with one Lua 5.1 VM and its own keys; a bucket
//! always lives on the same shard, so a script is alone with its bucket, as in
//! Redis. Nothing is kept on disk: the ledger is the truth, and buckets are
//! rebuilt from it at start.

mod keyspace;
mod vm;

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::keyspace::Fields;
use self::vm::Vm;
use super::host::{Args, BucketRef, HostError, HostFuture, Reply, Script, StockHost};

#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    pub shards: usize,
    /// Per VM, for what the scripts themselves use.
    pub vm_bytes_max: usize,
    /// Calls that may wait per shard. Each bucket has one under way at most.
    pub queue_max: usize,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            shards: 1,
            vm_bytes_max: 256 << 20,
            queue_max: 4_096,
        }
    }
}

enum Job {
    Run {
        bucket: BucketRef,
        script: Script,
        args: Arc<Args>,
        reply: oneshot::Sender<Result<Reply, HostError>>,
    },
    /// A key whose fields will be many, and the map for them.
    Room { key: String, fields: Fields },
}

pub struct EmbeddedHost {
    shards: Vec<Sender<Job>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl EmbeddedHost {
    pub fn start(config: &EmbeddedConfig) -> Result<Self, String> {
        let mut shards = Vec::new();
        let mut threads = Vec::new();
        for i in 0..config.shards.max(1) {
            let (send, jobs) = bounded(config.queue_max);
            // The VM is made on its own thread (it never leaves it), but a
            // script that does not compile must fail the start, not the sale.
            let (ready, made) = bounded(1);
            let vm_bytes_max = config.vm_bytes_max;
            let thread = std::thread::Builder::new()
                .name(format!("stock-{i}"))
                .spawn(move || match Vm::new(vm_bytes_max) {
                    Ok(vm) => {
                        let _ = ready.send(Ok(()));
                        work(vm, &jobs);
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error.to_string()));
                    }
                })
                .map_err(|e| format!("start a stock thread: {e}"))?;
            made.recv()
                .map_err(|_| "the stock thread ended at once".to_owned())??;
            shards.push(send);
            threads.push(thread);
        }
        Ok(Self {
            shards,
            threads: Mutex::new(threads),
        })
    }

    fn shard(&self, bucket: &BucketRef) -> &Sender<Job> {
        // Fixed keys: where a bucket lives must not change while it lives.
        let mut hash =
            std::hash::BuildHasherDefault::<std::collections::hash_map::DefaultHasher>::default()
                .build_hasher();
        hash.write(bucket.sale.as_bytes());
        hash.write_u16(bucket.bucket.0);
        &self.shards[(hash.finish() % self.shards.len() as u64) as usize]
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
            let (reply, answer) = oneshot::channel();
            let job = Job::Run {
                bucket: bucket.clone(),
                script,
                args: Arc::clone(args),
                reply,
            };
            // One call a bucket is under way, so the queue is full only when
            // there are more buckets on the shard than it has room for.
            match self.shard(bucket).try_send(job) {
                Ok(()) => answer.await.unwrap_or(Err(HostError::Stopped)),
                Err(crossbeam::channel::TrySendError::Full(_)) => {
                    Err(HostError::Unknown("the shard's queue is full".into()))
                }
                Err(crossbeam::channel::TrySendError::Disconnected(_)) => Err(HostError::Stopped),
            }
        })
    }

    /// The maps are made here and not on the shard's thread, where other sales go on.
    fn make_room<'a>(&'a self, bucket: &'a BucketRef, orders: usize) -> HostFuture<'a, ()> {
        Box::pin(async move {
            let [_, _, holds, users, used, _] = bucket.keys();
            for key in [holds, users, used] {
                let fields = tokio::task::spawn_blocking(move || Fields::roomy(orders + 1))
                    .await
                    .map_err(|e| HostError::Unknown(e.to_string()))?;
                self.shard(bucket)
                    .try_send(Job::Room { key, fields })
                    .map_err(|_| HostError::Unknown("the shard's queue is full".into()))?;
            }
            Ok(())
        })
    }
}

impl Drop for EmbeddedHost {
    fn drop(&mut self) {
        self.shards.clear();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a stock thread had panicked");
            }
        }
    }
}

fn work(mut vm: Vm, jobs: &Receiver<Job>) {
    for job in jobs {
        match job {
            Job::Run {
                bucket,
                script,
                args,
                reply,
            } => {
                let answer = vm.run(&bucket, script, &args);
                // Whoever asked may have been stopped.
                let _ = reply.send(answer.map_err(|e| HostError::Script(e.to_string())));
            }
            Job::Room { key, fields } => vm.room(&key, fields),
        }
    }
}
