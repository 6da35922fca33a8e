//! The disk of a schedule: slow, failing, or dying with the engine in the middle
//! of a commit. What it confirmed is there at the next start.

use std::sync::Arc;

use floodgate_ledger::{Device, DeviceError, Driver, MemoryDisk, Stepped, Table, Write};
use parking_lot::Mutex;

use crate::world::{World, ms};

pub struct SimDevice {
    pub disk: MemoryDisk,
    pub world: Arc<World>,
    pub before: Before,
}

/// What the disk held before the last commit of this life that wrote records.
pub type Before = Arc<Mutex<Option<MemoryDisk>>>;

impl SimDevice {
    fn write(&mut self, writes: &[Write<'_>]) -> Result<(), DeviceError> {
        let record = |write: &Write<'_>| match write {
            Write::Put {
                table: Table::Records,
                key,
                ..
            } => <[u8; 8]>::try_from(*key).ok().map(u64::from_be_bytes),
            Write::Put { .. } | Write::Delete { .. } | Write::DeleteRange { .. } => None,
        };
        let first = writes.iter().filter_map(record).min();
        let last = writes.iter().filter_map(record).max();
        if self.world.setup.damage && last.is_some() {
            *self.before.lock() = Some(self.disk.copy());
        }
        self.disk.write_synced(writes)?;
        if let (Some(first), Some(last)) = (first, last) {
            self.world.committed(first, last);
        }
        Ok(())
    }
}

/// Between two lives something happens to the newest records. True if it did: then
/// a start that goes on all the same has lost what was promised.
pub fn damage(disk: &mut MemoryDisk, before: &Before, world: &World) -> bool {
    let Some(before) = before.lock().take() else {
        return false;
    };
    match world.draw(|rng| rng.u8(..4)) {
        0 => {
            world.count("fault: the newest records were lost");
            world.note(format_args!("records lost"));
            for table in [
                Table::Records,
                Table::Entities,
                Table::ByOwner,
                Table::Uniques,
            ] {
                disk.fall_back(table, &before);
            }
            true
        }
        1 => {
            let Some((key, value)) = disk.last(Table::Records) else {
                return false;
            };
            world.count("fault: a bit of the newest record flipped");
            world.note(format_args!("a bit flipped"));
            let mut value = value.to_vec();
            let bit = world.draw(|rng| rng.usize(..8 * value.len()));
            value[bit / 8] ^= 1 << (bit % 8);
            let put = Write::Put {
                table: Table::Records,
                key: &key,
                value: &value,
            };
            disk.write_synced(&[put]).is_ok()
        }
        2 => {
            world.count("fault: an older copy of the ledger was put back");
            world.note(format_args!("an older copy"));
            *disk = before;
            true
        }
        _ => false,
    }
}

impl Device for SimDevice {
    fn write_synced(&mut self, writes: &[Write<'_>]) -> Result<(), DeviceError> {
        let world = Arc::clone(&self.world);
        if !world.passes("crash: before a commit") {
            return Err(DeviceError("the engine is dead".into()));
        }
        if world.happens(|r| r.disk_fails) {
            world.count("fault: a commit failed");
            // Nobody can know what of it stands.
            let stands = world.draw(|rng| rng.bool());
            world.note(format_args!("commit fails, stands: {stands}"));
            if stands {
                self.write(writes)?;
            }
            return Err(DeviceError("input/output error".into()));
        }
        self.write(writes)?;
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
