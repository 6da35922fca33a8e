//! RocksDB behind one door: its options, its tables, its synced write.
//!
//! Nothing above this file knows an option; nothing here knows a record.

use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBPinnableSlice, DBRecoveryMode, Error, FlushOptions, Options, ReadOptions, WriteBatch,
    WriteOptions,
};

use crate::config::LedgerConfig;
use crate::device::{Device, DeviceError, Table, Write};
use crate::open::Lock;
use crate::tables::Cursor;

/// Blocks of all tables, indexes and filters.
const CACHE_BYTES: usize = 128 << 20;
/// Small tables (uniques, owners, meta) would pin old write-ahead files; at this
/// size they are flushed. It also bounds what a start has to replay: two full
/// write buffers of records and entities, and as much again on its way to disk.
const WAL_BYTES_MAX: u64 = 384 << 20;
/// Rust-side iterators that walk whole tables read ahead this much.
const READAHEAD_BYTES: usize = 2 << 20;

pub(crate) struct Rocks {
    db: DB,
    /// Held until the database is closed: fields drop in this order.
    _lock: Option<Lock>,
}

impl Rocks {
    pub(crate) fn open(path: &Path, config: &LedgerConfig, lock: Lock) -> Result<Self, Error> {
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        let mut options = options();
        options.set_max_open_files(config.open_files_max.map_or(-1, |n| i32::from(n.get())));
        let tables = tables(config.memtable_bytes, &cache);
        DB::open_cf_descriptors(&options, path, tables).map(|db| Self {
            db,
            _lock: Some(lock),
        })
    }

    /// Sees the ledger as its write-ahead log has it; writes nothing.
    pub(crate) fn open_read_only(path: &Path) -> Result<Self, Error> {
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        let mut options = options();
        options.create_if_missing(false);
        DB::open_cf_descriptors_read_only(&options, path, tables(64 << 20, &cache), false)
            .map(|db| Self { db, _lock: None })
    }

    pub(crate) fn db(&self) -> &DB {
        &self.db
    }

    pub(crate) fn table(&self, table: Table) -> &ColumnFamily {
        self.db
            .cf_handle(table.name())
            .expect("open names every table")
    }

    pub(crate) fn get(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<DBPinnableSlice<'_>>, Error> {
        self.db.get_pinned_cf(self.table(table), key)
    }

    pub(crate) fn cursor(&self, table: Table, options: ReadOptions) -> Cursor<'_> {
        Cursor::Rocks(self.db.raw_iterator_cf_opt(self.table(table), options))
    }

    /// Moves what is in memory into table files, so that the next start replays nothing.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        let tables = Table::ALL.map(|table| self.table(table));
        self.db.flush_cfs_opt(&tables, &FlushOptions::default())
    }

    /// Gives back whole files of a range that was deleted, **both ends included**: a
    /// file that ends with `last` goes. Looks at names of files only, so it costs
    /// the same however much was deleted before.
    pub(crate) fn drop_files(&self, table: Table, first: &[u8], last: &[u8]) -> Result<(), Error> {
        self.db
            .delete_file_in_range_cf(self.table(table), first, last)
    }
}

/// For walks that should not push anything out of the cache.
pub(crate) fn walk() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_readahead_size(READAHEAD_BYTES);
    options
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // The default mode drops everything after a damage in silence. This one
    // forgives only a last write cut short, which nobody was told about.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    // One writer: no concurrent inserts, and sequential keys find their place at once.
    options.set_allow_concurrent_memtable_write(false);
    options.set_enable_write_thread_adaptive_yield(false);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(1 << 20);
    options.set_keep_log_file_num(4);
    options.set_stats_dump_period_sec(0);
    options
}

fn tables(memtable_bytes: usize, cache: &Cache) -> Vec<ColumnFamilyDescriptor> {
    let describe = |table: Table| {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(cache);
        blocks.set_block_size(16 << 10);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        let mut options = Options::default();
        // One compression on all levels: files of sequential keys then move down
        // a level without being rewritten.
        options.set_compression_type(DBCompressionType::Lz4);
        // Background work shares the cores with selling; a burst may pile up
        // more files before writes are slowed.
        options.set_level_zero_slowdown_writes_trigger(40);
        options.set_level_zero_stop_writes_trigger(60);
        let (buffer_bytes, buffers) = match table {
            Table::Records | Table::Entities => (memtable_bytes, 4),
            Table::Uniques | Table::ByOwner => (memtable_bytes / 2, 3),
            Table::DeadLetters | Table::Meta => (memtable_bytes / 4, 2),
        };
        options.set_write_buffer_size(buffer_bytes);
        options.set_max_write_buffer_number(buffers);
        match table {
            // Mostly asked for what is not there: filters answer without a disk.
            Table::Entities | Table::Uniques => blocks.set_bloom_filter(10.0, false),
            Table::Records | Table::ByOwner | Table::DeadLetters | Table::Meta => {}
        }
        options.set_block_based_table_factory(&blocks);
        ColumnFamilyDescriptor::new(table.name(), options)
    };
    Table::ALL.map(describe).into()
}

/// The real device: one `WriteBatch`, `sync = true`.
pub struct RocksDevice {
    rocks: Arc<Rocks>,
    options: WriteOptions,
}

impl RocksDevice {
    pub(crate) fn new(rocks: Arc<Rocks>) -> Self {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Self { rocks, options }
    }
}

impl Device for RocksDevice {
    fn write_synced(&mut self, writes: &[Write<'_>]) -> Result<(), DeviceError> {
        let handles = Table::ALL.map(|table| self.rocks.table(table));
        // `Table::ALL` is in declaration order, so the discriminant is the place.
        let cf = |table: Table| handles[table as usize];
        // Per entry RocksDB adds a tag, a table number and two lengths.
        let bytes: usize = writes
            .iter()
            .map(|write| match write {
                Write::Put { key, value, .. } => 12 + key.len() + value.len(),
                Write::Delete { key, .. } => 12 + key.len(),
                Write::DeleteRange { from, to, .. } => 12 + from.len() + to.len(),
            })
            .sum();
        let mut batch = WriteBatch::with_capacity_bytes(16 + bytes);
        for write in writes {
            match *write {
                Write::Put { table, key, value } => batch.put_cf(cf(table), key, value),
                Write::Delete { table, key } => batch.delete_cf(cf(table), key),
                Write::DeleteRange { table, from, to } => {
                    batch.delete_range_cf(cf(table), from, to);
                }
            }
        }
        self.rocks
            .db()
            .write_opt(batch, &self.options)
            .map_err(|error| DeviceError(error.into_string()))
    }
}
