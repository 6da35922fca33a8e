//! A schedule: the lives of one engine under one seed, and the verdict.
//!
//! First buyers, operators and faults do what they please; then everything heals,
//! and what was promised must be so.

use std::sync::Arc;
use std::sync::LazyLock;

use fastrand::Rng;
use floodgate_engine::stream::Mark;
use floodgate_ledger::{LedgerId, MemoryDisk, Tip};
use parking_lot::Mutex;

use crate::disk;
use crate::healing::{healed, over};
use crate::host::SimHost;
use crate::journal::Journal;
use crate::life::{Ground, Meters, Started};
use crate::setup::{HOUR, T0};
use crate::world::{Outcome, SimClock, World};

/// More lives than any schedule needs.
const LIVES_MAX: u32 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Anything may happen.
    Trouble,
    /// Nothing fails any more: every question gets its answer.
    Healed,
    /// Every pay window is over.
    Over,
}

pub enum End {
    Died(&'static str),
    /// Stopped, to start again at this stage.
    Goes(Stage, Restart),
    Done,
}

pub enum Restart {
    Soon,
    /// After this moment.
    After(u64),
}

pub fn run(seed: u64, keep_lines: bool) -> Outcome {
    static METERS: LazyLock<Meters> = LazyLock::new(Meters::new);
    let world = World::new(seed, keep_lines);
    let mut rng = Rng::with_seed(seed ^ 0x5EED);
    let ledger = LedgerId(rng.u128(..).to_be_bytes());
    let mut ground = Ground {
        host: Arc::new(SimHost::new(Arc::clone(&world))),
        disk: MemoryDisk::new(ledger),
        journal: Arc::new(Mutex::new(Journal::default())),
        before: Arc::default(),
        damaged: false,
        tip: None,
        mark: None,
        meters: METERS.clone(),
        actions_left: world.setup.n_actions,
        rng,
        world: Arc::clone(&world),
    };
    let (mut stage, mut base, mut crashes) = (Stage::Trouble, T0, 0);
    for life in 0.. {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let (end, now) = runtime.block_on(async {
            let clock = world.begin(base);
            world.note(format_args!("life {life} at {base}, {stage:?}"));
            if stage == Stage::Trouble && crashes < world.setup.crashes_max {
                world.crash_in(world.draw(|rng| rng.u32(1..120)));
            }
            let end = tokio::select! {
                biased;
                () = world.crashed() => End::Died("a crash"),
                end = live(&mut ground, Arc::new(clock), stage) => end,
            };
            (end, world.end())
        });
        // With the runtime go the tasks, wherever they stood.
        drop(runtime);
        for request in &mut ground.journal.lock().requests {
            request.over = true;
        }
        if !world.setup.host_apart {
            ground.host.forget();
        }
        if world.is_broken() {
            break;
        }
        base = now + 1;
        match end {
            End::Done => break,
            End::Died(why) => {
                crashes += 1;
                ground.mark = ground.tip.as_ref().map(|tip| {
                    let Tip { seq, hash } = *tip.borrow();
                    Mark { ledger, seq, hash }
                });
                let Ground { disk, before, .. } = &mut ground;
                ground.damaged |= disk::damage(disk, before, &world);
                world.note(format_args!("dead: {why}"));
                base = jump(&mut ground.rng, base, &world);
            }
            End::Goes(next, restart) => {
                stage = next;
                if let Restart::After(moment) = restart {
                    base = base.max(moment + 1);
                }
            }
        }
        if life > LIVES_MAX {
            world.breaks(format_args!(
                "P5 nothing stays stuck: the engine dies again and again"
            ));
            break;
        }
    }
    world.outcome()
}

/// What the clock says at the next start.
fn jump(rng: &mut Rng, base: u64, world: &World) -> u64 {
    if world.setup.clock_stuck {
        world.count("fault: the clock starts again where it began");
        return T0;
    }
    match rng.u8(..7) {
        0..4 => base,
        4 => {
            world.count("fault: the clock jumps back");
            base - rng.u64(1..HOUR)
        }
        5 => {
            world.count("fault: the clock jumps ahead");
            base + rng.u64(1..HOUR)
        }
        _ => base + rng.u64(1..10_000),
    }
}

async fn live(ground: &mut Ground, clock: Arc<SimClock>, stage: Stage) -> End {
    let world = Arc::clone(&ground.world);
    if stage != Stage::Trouble {
        ground.host.all_arrive();
    }
    let engine = match ground.start(clock).await {
        Started::Running(engine) => engine,
        Started::Refused(why) => {
            world.note(format_args!("no start: {why}"));
            if ground.damaged {
                // As it must be: selling on would sell units and keys a second time.
                world.count("starts refused on a damaged ledger");
                return End::Done;
            }
            if world.is_healed() {
                world.breaks(format_args!(
                    "P5 nothing stays stuck: the engine does not start: {why}"
                ));
            }
            return End::Died("no start");
        }
    };
    let failed = engine.ledger.failed();
    let lived = async {
        match stage {
            Stage::Trouble => {
                if ground.use_it(&engine).await {
                    return End::Goes(Stage::Trouble, Restart::Soon);
                }
                world.heal();
                if world.is_tampered() {
                    // What was invented may lie where nobody looked; a start reads it all anew.
                    return End::Goes(Stage::Healed, Restart::Soon);
                }
                ground.host.all_arrive();
                healed(ground, &engine).await
            }
            Stage::Healed => healed(ground, &engine).await,
            Stage::Over => over(ground, &engine).await,
        }
    };
    tokio::select! {
        biased;
        _ = failed => End::Died("the ledger is shut"),
        end = lived => end,
    }
}
