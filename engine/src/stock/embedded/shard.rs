//! One thread, one VM, and a runtime for the desks whose buckets live here.

use std::cell::RefCell;
use std::future::Future;
use std::thread::{JoinHandle, ThreadId};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::keyspace::Fields;
use super::vm::Vm;
use crate::stock::host::{Args, BucketRef, HostError, Reply, Script};

thread_local! {
    /// Never leaves its thread; on any other thread there is none.
    static HERE: RefCell<Option<Vm>> = const { RefCell::new(None) };
}

pub struct Shard {
    handle: Handle,
    thread: ThreadId,
    stop: Option<oneshot::Sender<()>>,
    join: Option<JoinHandle<()>>,
}

impl Shard {
    pub fn start(no: usize, vm_bytes_max: usize) -> Result<Self, String> {
        let (stop, stopped) = oneshot::channel();
        // A script that does not compile must fail the start, not the sale.
        let (ready, made) = std::sync::mpsc::sync_channel(1);
        let join = std::thread::Builder::new()
            .name(format!("stock-{no}"))
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                    .map_err(|e| e.to_string())
                    .and_then(|runtime| {
                        let vm = Vm::new(vm_bytes_max).map_err(|e| e.to_string())?;
                        HERE.set(Some(vm));
                        Ok(runtime)
                    });
                // Whoever starts a shard waits for this word.
                let _ = ready.send(
                    runtime
                        .as_ref()
                        .map(|r| r.handle().clone())
                        .map_err(String::clone),
                );
                if let Ok(runtime) = runtime {
                    // An error means that the host was dropped: the same word.
                    let _ = runtime.block_on(stopped);
                }
            })
            .map_err(|e| format!("start a stock thread: {e}"))?;
        let handle = made
            .recv()
            .map_err(|_| "the stock thread ended at once".to_owned())??;
        Ok(Self {
            handle,
            thread: join.thread().id(),
            stop: Some(stop),
            join: Some(join),
        })
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    pub fn is_here(&self) -> bool {
        std::thread::current().id() == self.thread
    }

    /// Runs it on this shard's thread, among the desks.
    pub async fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, HostError>> + Send + 'static,
    ) -> Result<T, HostError> {
        self.handle
            .spawn(work)
            .await
            .unwrap_or(Err(HostError::Stopped))
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        // The thread ends by dropping either end.
        drop(self.stop.take());
        if let Some(join) = self.join.take()
            // The last desk of all may drop the host from here.
            && !self.is_here()
            && join.join().is_err()
        {
            tracing::error!("a stock thread had panicked");
        }
    }
}

fn with_vm<T>(run: impl FnOnce(&mut Vm) -> T) -> Result<T, HostError> {
    HERE.with_borrow_mut(|vm| vm.as_mut().map(run))
        .ok_or(HostError::Stopped)
}

pub fn run_here(bucket: &BucketRef, script: Script, args: &Args) -> Result<Reply, HostError> {
    with_vm(|vm| vm.run(bucket, script, args))?.map_err(|e| HostError::Script(e.to_string()))
}

pub fn room_here(key: &str, fields: Fields) -> Result<(), HostError> {
    with_vm(|vm| vm.room(key, fields))
}
