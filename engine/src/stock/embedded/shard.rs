//! A shard: one VM and its keys, on the thread of one worker.

use std::cell::RefCell;
use std::future::Future;
use std::thread::ThreadId;

use tokio::runtime::Handle;

use super::keyspace::Fields;
use super::vm::Vm;
use crate::stock::host::{Args, BucketRef, HostError, Reply, Script};

thread_local! {
    /// Never leaves its thread; on any other thread there is none.
    static HERE: RefCell<Option<Vm>> = const { RefCell::new(None) };
}

pub struct Shard {
    worker: Handle,
    thread: ThreadId,
}

impl Shard {
    /// Makes a VM on the worker's thread. Blocks until it is there: a script that
    /// does not compile must fail the start, not the sale.
    pub fn start(worker: &Handle, vm_bytes_max: usize) -> Result<Self, String> {
        let (ready, made) = std::sync::mpsc::sync_channel(1);
        worker.spawn(async move {
            let vm = Vm::new(vm_bytes_max)
                .map(|vm| HERE.set(Some(vm)))
                .map_err(|e| e.to_string());
            // Whoever starts a shard waits for this word.
            let _ = ready.send(vm.map(|()| std::thread::current().id()));
        });
        let thread = made
            .recv()
            .map_err(|_| "the worker ended at once".to_owned())??;
        Ok(Self {
            worker: worker.clone(),
            thread,
        })
    }

    pub fn worker(&self) -> &Handle {
        &self.worker
    }

    pub fn is_here(&self) -> bool {
        std::thread::current().id() == self.thread
    }

    /// Runs it on this shard's thread, among the desks.
    pub async fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, HostError>> + Send + 'static,
    ) -> Result<T, HostError> {
        self.worker
            .spawn(work)
            .await
            .unwrap_or(Err(HostError::Stopped))
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
