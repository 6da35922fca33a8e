//! Reading: entities, owners, unique keys, marks, and the tail.
//!
//! Whatever can be read is durable: RocksDB shows a write only after its fsync.
//! Lists are consistent: each is one view of the moment it was asked for.

use std::path::Path;

use bytes::Bytes;

use crate::device::Table;
use crate::error::{Damage, OpenError, ReadError};
use crate::frame::{self, Frame};
use crate::keys;
use crate::open::{self, Identity};
use crate::record::{DeadLetter, EntityRef, Kind, Record, Seq, Snapshot, Tip};
use crate::scrub::{self, Scrubbed};
use crate::tables::{Cursor, Moment, Reach, Tables};
use crate::verify::{self, VerifyReport};
use crate::walk::{Entities, snapshot};

/// Read access; cheap to clone. It keeps the folder open: a ledger can be opened
/// again only once its readers are gone.
#[derive(Clone)]
pub struct Reader {
    tables: Tables,
}

impl Reader {
    pub(crate) fn new(tables: Tables) -> Self {
        Self { tables }
    }

    /// Looks into a ledger without owning it: nothing is written, and another
    /// process may be running on it. Shows the state of this moment.
    pub fn open_read_only(path: &Path) -> Result<Self, OpenError> {
        open::read_only(path)
    }

    /// Id, incarnation, tip, floor and the newest verified record, as stored.
    pub fn identity(&self) -> Result<Identity, ReadError> {
        let none = Damage::NoMeta { key: "id" };
        open::identity(&self.tables)?.ok_or(ReadError::Damaged(none))
    }

    /// Reads everything back: records (frames, dense seqs, chain and tip), and the entries of
    /// the other tables.
    pub fn verify(&self) -> Result<VerifyReport, ReadError> {
        let Identity { floor, tip, .. } = self.identity()?;
        verify::tip_stands(&self.tables, floor, tip)?;
        let report = verify::chain(&self.tables, floor, tip)?;
        let entries = scrub::entries(&self.tables, &mut || true)?.unwrap_or(0);
        Ok(VerifyReport { entries, ..report })
    }

    /// The same while the ledger is in use, in pieces: after each it asks `rest` whether to go
    /// on. `None`: it was told not to.
    pub fn scrub(&self, rest: impl FnMut() -> bool) -> Result<Option<Scrubbed>, ReadError> {
        scrub::scrub(&self.tables, rest)
    }

    /// The newest state of an entity.
    pub fn entity(
        &self,
        group: &[u8],
        kind: Kind,
        id: &[u8],
    ) -> Result<Option<Snapshot>, ReadError> {
        let key = keys::entity(group, kind, id);
        let found = self.tables.get(Table::Entities, &key)?;
        found.map(|value| snapshot(&key, &value)).transpose()
    }

    /// All entities, by group, kind, id.
    pub fn entities(
        &self,
        group: Option<&[u8]>,
        kind: Option<Kind>,
        live_only: bool,
    ) -> Entities<'_> {
        let open = |reach| self.tables.cursor(Table::Entities, reach);
        Entities::start(open, true, group, kind, live_only)
    }

    /// The next `limit` entities of a group and kind, after `after_id`.
    pub fn entities_page(
        &self,
        group: &[u8],
        kind: Kind,
        after_id: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Snapshot>, ReadError> {
        let open = |reach| self.tables.cursor(Table::Entities, reach);
        let mut page = Entities::start(open, false, Some(group), Some(kind), false);
        if let Some(id) = after_id {
            page.skip_past(&keys::entity(group, kind, id));
        }
        page.take(limit).collect()
    }

    /// The greatest id of a group and kind: the newest, where ids begin with their time.
    pub fn last_id(&self, group: &[u8], kind: Kind) -> Result<Option<Bytes>, ReadError> {
        let prefix = keys::entity_prefix(group, Some(kind));
        let end = keys::after_prefix(prefix.clone());
        let mut raw = self.raw(Table::Entities, Some(&prefix), end);
        raw.seek_to_last();
        let last = raw
            .item()
            .map(|(key, _)| Bytes::copy_from_slice(&key[prefix.len()..]));
        raw.status()?;
        Ok(last)
    }

    /// Tip and entities of one moment, for a copy that is marked with that tip.
    pub fn view(&self) -> Result<View<'_>, ReadError> {
        let moment = self.tables.moment();
        let value = self.tables.get_at(&moment, Table::Meta, keys::META_TIP)?;
        let tip = value.as_deref().and_then(keys::parse_tip);
        let tip = tip.ok_or(Damage::NoMeta { key: "tip" })?;
        Ok(View {
            tables: &self.tables,
            moment,
            tip,
        })
    }

    /// What an owner has of one kind, newest id first, before `before`. Ids that
    /// begin with their time make this newest first.
    pub fn by_owner(
        &self,
        owner: &[u8],
        kind: Kind,
        before: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<EntityRef>, ReadError> {
        let prefix = keys::owner_prefix(owner, kind);
        let end = match before {
            Some(id) => Some([&prefix[..], id].concat()),
            None => keys::after_prefix(prefix.clone()),
        };
        let mut raw = self.raw(Table::ByOwner, Some(&prefix), end);
        raw.seek_to_last();
        let mut found = Vec::new();
        while found.len() < limit
            && let Some((key, group)) = raw.item()
        {
            let id = Bytes::copy_from_slice(&key[prefix.len()..]);
            found.push(EntityRef {
                group: Bytes::copy_from_slice(group),
                kind,
                id,
            });
            raw.prev();
        }
        raw.status()?;
        Ok(found)
    }

    /// Who holds a unique key.
    pub fn unique(&self, key: &[u8]) -> Result<Option<EntityRef>, ReadError> {
        let found = self.tables.get(Table::Uniques, key)?;
        let parse = |value: &[u8]| {
            keys::parse_holder(value).map_err(|why| entry_damage(Table::Uniques, key, &why))
        };
        found.map(|value| parse(&value)).transpose()
    }

    /// A value that the caller wrote with a group.
    pub fn meta(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let found = self.tables.get(Table::Meta, &keys::caller_meta(key))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// Records from `from` on, in order and without a gap: at most `max_records`,
    /// and no more once they passed `max_bytes` (so at least one, however large).
    /// Empty means that `from` is not written yet.
    pub fn tail(
        &self,
        from: Seq,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let mut expected = from.max(Seq(1));
        let mut raw = self.raw(Table::Records, Some(&keys::record(expected)), None);
        raw.seek(&keys::record(expected));
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < max_records
            && bytes < max_bytes
            && let Some((key, value)) = raw.item()
        {
            if key != keys::record(expected) {
                self.refuse_trimmed(expected)?;
                return Err(Damage::Missing { seq: expected }.into());
            }
            records.push(record(expected, value)?);
            bytes += value.len();
            expected = expected.next();
            raw.next();
        }
        raw.status()?;
        if records.is_empty() && max_records > 0 && max_bytes > 0 {
            self.refuse_trimmed(expected)?;
        }
        Ok(records)
    }

    /// Letters after `after`, in order of seq.
    pub fn dead_letters(&self, after: Seq, limit: usize) -> Result<Vec<DeadLetter>, ReadError> {
        let mut raw = self.raw(Table::DeadLetters, None, None);
        raw.seek(&keys::record(after.next()));
        let mut letters = Vec::new();
        while letters.len() < limit
            && let Some((key, note)) = raw.item()
        {
            let seq = key
                .try_into()
                .map(|key| Seq(u64::from_be_bytes(key)))
                .map_err(|_| entry_damage(Table::DeadLetters, key, &"key is not eight bytes"))?;
            letters.push(DeadLetter {
                seq,
                note: Bytes::copy_from_slice(note),
            });
            raw.next();
        }
        raw.status()?;
        Ok(letters)
    }

    pub(crate) fn flush(&self) -> Result<(), rocksdb::Error> {
        self.tables.flush()
    }

    fn refuse_trimmed(&self, from: Seq) -> Result<(), ReadError> {
        let floor = self.identity()?.floor.seq;
        if from <= floor {
            return Err(ReadError::Trimmed {
                from,
                oldest: floor.next(),
            });
        }
        Ok(())
    }

    fn raw(&self, table: Table, from: Option<&[u8]>, to: Option<Vec<u8>>) -> Cursor<'_> {
        let from = from.map(<[u8]>::to_vec);
        self.tables.cursor(
            table,
            Reach {
                from,
                to,
                walk: false,
            },
        )
    }
}

/// The ledger of one moment.
pub struct View<'a> {
    tables: &'a Tables,
    moment: Moment<'a>,
    tip: Tip,
}

impl View<'_> {
    /// The newest record of that moment.
    #[must_use]
    pub fn tip(&self) -> Tip {
        self.tip
    }

    /// An entity as it was at that moment.
    pub fn entity(
        &self,
        group: &[u8],
        kind: Kind,
        id: &[u8],
    ) -> Result<Option<Snapshot>, ReadError> {
        let key = keys::entity(group, kind, id);
        let found = self.tables.get_at(&self.moment, Table::Entities, &key)?;
        found.map(|value| snapshot(&key, &value)).transpose()
    }

    /// The entities of that moment, by group, kind, id.
    pub fn entities(
        &self,
        group: Option<&[u8]>,
        kind: Option<Kind>,
        live_only: bool,
    ) -> Entities<'_> {
        let open = |reach| {
            let tables = self.tables;
            tables.cursor_at(&self.moment, Table::Entities, reach)
        };
        Entities::start(open, true, group, kind, live_only)
    }
}

fn record(seq: Seq, value: &[u8]) -> Result<Record, Damage> {
    let whole = Bytes::copy_from_slice(value);
    let Frame {
        key,
        uniques,
        state,
        hash,
        ..
    } = frame::decode(&whole).map_err(|why| Damage::Frame { seq, why })?;
    if state.seq != seq {
        return Err(Damage::WrongSeq {
            seq,
            says: state.seq,
        });
    }
    Ok(Record {
        seq,
        hash,
        kind: key.kind,
        group: whole.slice_ref(key.group),
        id: whole.slice_ref(key.id),
        version: state.version,
        live: state.live,
        owner: state.owner.map(|owner| whole.slice_ref(owner)),
        uniques: uniques.map(|unique| whole.slice_ref(unique)).collect(),
        at_ms: state.at_ms,
        body: whole.slice_ref(state.body),
    })
}

pub(crate) fn entry_damage(table: Table, key: &[u8], why: &dyn std::fmt::Display) -> ReadError {
    let key = key.escape_ascii().to_string();
    Damage::Entry {
        table: table.name(),
        key,
        why: why.to_string(),
    }
    .into()
}
