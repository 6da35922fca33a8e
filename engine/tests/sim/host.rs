//! The stock host of a schedule: the real scripts in the real VM, behind a line
//! that loses, repeats and delays, on a host that forgets.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use floodgate_engine::stock::embedded::{Keyspace, Vm};
use floodgate_engine::stock::{Args, BucketRef, HostError, HostFuture, Reply, Script, StockHost};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::world::{World, ms};

thread_local! {
    /// Compiled once; each schedule brings its own keys.
    static VM: RefCell<Option<Vm>> = const { RefCell::new(None) };
}

pub fn with_vm<T>(run: impl FnOnce(&mut Vm) -> T) -> T {
    VM.with_borrow_mut(|vm| {
        run(vm.get_or_insert_with(|| Vm::new(64 << 20).expect("the scripts compile")))
    })
}

/// A call that the host will hear later, if at all.
struct Copy {
    bucket: BucketRef,
    script: Script,
    args: Arc<Args>,
}

pub struct SimHost {
    pub world: Arc<World>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// A connection that stalls delivers in order, all or a part, at any later time.
    line: VecDeque<Copy>,
    /// States the host may fall back to.
    backups: VecDeque<Keyspace>,
}

impl SimHost {
    pub fn new(world: Arc<World>) -> Self {
        with_vm(|vm| *vm.keyspace() = Keyspace::default());
        Self {
            world,
            state: Mutex::default(),
        }
    }

    /// As a host that is part of the engine does when the engine dies.
    pub fn forget(&self) {
        with_vm(|vm| *vm.keyspace() = Keyspace::default());
        let mut state = self.state.lock();
        state.line.clear();
        state.backups.clear();
    }

    /// Whatever is still on its way arrives now.
    pub fn all_arrive(&self) {
        while self.arrive() {}
    }

    fn arrive(&self) -> bool {
        let Some(Copy {
            bucket,
            script,
            args,
        }) = self.state.lock().line.pop_front()
        else {
            return false;
        };
        self.world.count("fault: a late copy of a call ran");
        let reply = execute(&bucket, script, &args);
        let world = &self.world;
        world.note(format_args!(
            "late: {}",
            told(&bucket, script, &args, &reply)
        ));
        true
    }

    fn send_later(&self, bucket: &BucketRef, script: Script, args: &Arc<Args>) {
        self.state.lock().line.push_back(Copy {
            bucket: bucket.clone(),
            script,
            args: Arc::clone(args),
        });
    }

    /// What may befall the host itself before a call.
    fn befall(&self, bucket: &BucketRef, script: Script, args: &Args) {
        let world = &self.world;
        if world.happens(|r| r.arrival) {
            // What stalled together often arrives together.
            let n = self.state.lock().line.len();
            for _ in 0..world.draw(|rng| if rng.bool() { n } else { rng.usize(..=n) }) {
                self.arrive();
            }
        }
        if world.setup.rates.rolled_back > 0 && world.draw(|rng| rng.u8(..4)) == 0 {
            let mut state = self.state.lock();
            let now = with_vm(|vm| vm.keyspace().clone());
            state.backups.push_back(now);
            if state.backups.len() > 3 {
                state.backups.pop_front();
            }
        }
        if world.happens(|r| r.wiped) {
            world.count("fault: the stock host forgot everything");
            world.note(format_args!("wiped"));
            with_vm(|vm| *vm.keyspace() = Keyspace::default());
        }
        if world.happens(|r| r.rolled_back) {
            let state = self.state.lock();
            if !state.backups.is_empty() {
                let back = world.draw(|rng| rng.usize(..state.backups.len()));
                world.count("fault: the stock host fell back to an older state");
                world.note(format_args!("rolled back"));
                with_vm(|vm| *vm.keyspace() = state.backups[back].clone());
            }
        }
        if script == Script::Reserve && world.happens(|r| r.tampered) {
            self.tamper(bucket, args);
        }
        if script == Script::Settle && world.happens(|r| r.version_off) {
            self.put_version_off(bucket, args);
        }
    }
}

pub fn execute(bucket: &BucketRef, script: Script, args: &Args) -> Result<Reply, HostError> {
    with_vm(|vm| vm.run(bucket, script, args)).map_err(|e| HostError::Script(e.to_string()))
}

/// A call and its reply, for the trace.
fn told(
    bucket: &BucketRef,
    script: Script,
    args: &Args,
    reply: &Result<Reply, HostError>,
) -> String {
    let head: Vec<&str> = args
        .iter()
        .take(3)
        .map(|arg| std::str::from_utf8(arg).expect("digits"))
        .collect();
    let reply = match reply {
        Ok(Reply::Array(values)) => values
            .iter()
            .map(|value| match value {
                Reply::Int(n) => n.to_string(),
                Reply::Bytes(b) => String::from_utf8_lossy(b).into_owned(),
                Reply::Array(_) | Reply::Nil => "?".into(),
            })
            .collect::<Vec<_>>()
            .join(" "),
        other => format!("{other:?}"),
    };
    format!(
        "{}.{script:?} {} -> {reply}",
        bucket.bucket.0,
        head.join("/")
    )
}

impl StockHost for SimHost {
    fn run<'a>(
        &'a self,
        bucket: &'a BucketRef,
        script: Script,
        args: &'a Arc<Args>,
    ) -> HostFuture<'a> {
        Box::pin(async move {
            let world = &self.world;
            world.pass("crash: before a script").await;
            if !world.one_more_call() {
                std::future::pending::<()>().await;
            }
            world.count(script_name(script));
            self.befall(bucket, script, args);
            let silence = ms(world.draw(|rng| rng.u64(1..60)));
            let unknown = || Err(HostError::Unknown("no reply".into()));
            if world.happens(|r| r.call_lost) {
                world.count("fault: a call was lost");
                world.note(format_args!("lost: {}", script_name(script)));
                tokio::time::sleep(silence).await;
                return unknown();
            }
            if world.happens(|r| r.call_late) {
                world.count("fault: a call came late");
                world.note(format_args!("stalled: {}", script_name(script)));
                self.send_later(bucket, script, args);
                tokio::time::sleep(silence).await;
                return unknown();
            }
            if world.happens(|r| r.call_slow) {
                world.count("fault: a call took long");
                tokio::time::sleep(silence * 10).await;
                world.pass("crash: before a script").await;
            }
            if world.happens(|r| r.script_error) {
                world.count("fault: a script failed midway");
                world.note(format_args!("script error: {}", script_name(script)));
                self.run_in_part(bucket, script, args);
                return Err(HostError::Script("out of memory".into()));
            }
            let reply = execute(bucket, script, args);
            world.note(format_args!("{}", told(bucket, script, args, &reply)));
            if world.happens(|r| r.call_twice) {
                world.count("fault: a call ran twice");
                let again = execute(bucket, script, args);
                world.note(format_args!(
                    "again: {}",
                    told(bucket, script, args, &again)
                ));
                if world.draw(|rng| rng.bool()) {
                    self.send_later(bucket, script, args);
                }
            }
            world.pass("crash: after a script").await;
            if world.happens(|r| r.reply_lost) {
                world.count("fault: a reply was lost");
                world.note(format_args!("reply lost"));
                tokio::time::sleep(silence).await;
                return unknown();
            }
            if world.happens(|r| r.call_slow) {
                tokio::time::sleep(silence).await;
                world.pass("crash: after a script").await;
            }
            reply
        })
    }

    fn make_room<'a>(&'a self, _: &'a BucketRef, _: usize) -> HostFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn is_second_copy(&self) -> bool {
        self.world.setup.host_apart
    }

    fn home(&self, _: &BucketRef) -> Option<Handle> {
        None
    }
}

fn script_name(script: Script) -> &'static str {
    match script {
        Script::Open => "script: open",
        Script::Reserve => "script: reserve",
        Script::Settle => "script: settle",
        Script::Keep => "script: keep",
        Script::Move => "script: move",
        Script::Rebuild => "script: rebuild",
        Script::Audit => "script: audit",
    }
}
