//! The disk of a schedule: slow, failing, or dying with the engine in the middle
//! of a commit. What it confirmed is there at the next start.

use std::sync::Arc;

use floodgate_ledger::{Device, DeviceError, Driver, MemoryDisk, Stepped, Write};

use crate::world::{World, ms};

pub struct SimDevice {
    pub disk: MemoryDisk,
    pub world: Arc<World>,
}

impl Device for SimDevice {
    fn write_synced(&mut self, writes: &[Write<'_>]) -> Result<(), DeviceError> {
        let world = &self.world;
        if !world.passes("crash: before a commit") {
            return Err(DeviceError("the engine is dead".into()));
        }
        if world.happens(|r| r.disk_fails) {
            world.count("fault: a commit failed");
            // Nobody can know what of it stands.
            let stands = world.draw(|rng| rng.bool());
            world.note(format_args!("commit fails, stands: {stands}"));
            if stands {
                self.disk.write_synced(writes)?;
            }
            return Err(DeviceError("input/output error".into()));
        }
        self.disk.write_synced(writes)?;
        world.note(format_args!("commit of {} writes", writes.len()));
        // Durable either way: dead or alive, nobody has been told yet.
        let _ = world.passes("crash: after a commit");
        Ok(())
    }
}

/// Commits what is handed over, when it pleases.
pub async fn turn(mut driver: Driver, world: Arc<World>) {
    loop {
        driver.handed().await;
        if world.happens(|r| r.disk_slow) {
            world.count("fault: a commit took long");
            let wait = world.draw(|rng| match rng.u8(..8) {
                0 => rng.u64(500..4_000),
                _ => rng.u64(1..100),
            });
            tokio::time::sleep(ms(wait)).await;
        } else if world.draw(|rng| rng.bool()) {
            tokio::time::sleep(ms(1)).await;
        }
        loop {
            match driver.step() {
                Stepped::Committed => {}
                Stepped::Idle => break,
                Stepped::Ended => return,
            }
        }
    }
}
