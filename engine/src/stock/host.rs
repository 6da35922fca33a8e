//! The seam: "run this script on this bucket".
//!
//! A host knows nothing of sales. It runs one of the shared scripts with these
//! arguments against one bucket's keys, whole or not at all as far as other
//! scripts can see, and gives back what Redis would give back.

use std::future::Future;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use super::standing::{Holds, Meta, Tail, UsedKeys};
use crate::domain::ids::{BucketNo, SaleId};
use crate::domain::sale::Sale;

/// One bucket of one sale; names its six keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketRef {
    pub sale: SaleId,
    pub bucket: BucketNo,
}

impl BucketRef {
    pub fn all(sale: &Sale) -> impl Iterator<Item = Self> {
        (0..sale.buckets).map(|no| Self {
            sale: sale.id.clone(),
            bucket: BucketNo(no),
        })
    }

    /// All keys share one hash tag, hence one Redis slot.
    pub fn keys(&self) -> [String; 6] {
        ["meta", "stock", "orders", "users", "moves", "tail"]
            .map(|name| format!("{{fg:{}:{}}}:{name}", self.sale, self.bucket.0))
    }

    /// The bucket whose meta key this is.
    pub(super) fn of_meta_key(key: &str) -> Option<Self> {
        let name = key.strip_prefix("{fg:")?.strip_suffix("}:meta")?;
        let (sale, bucket) = name.rsplit_once(':')?;
        Some(Self {
            sale: SaleId::parse(sale).ok()?,
            bucket: BucketNo(bucket.parse().ok()?),
        })
    }

    /// One of `of` places, always the same one. Fixed keys: where a bucket lives must
    /// not change while it lives.
    pub(super) fn place(&self, of: usize) -> usize {
        let mut hash = BuildHasherDefault::<DefaultHasher>::default().build_hasher();
        hash.write(self.sale.as_bytes());
        hash.write_u16(self.bucket.0);
        (hash.finish() % of.max(1) as u64) as usize
    }
}

/// Arguments in one buffer: a batch has thousands, and they go one way.
#[derive(Debug, Clone, Default)]
pub struct Args {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Args {
    pub fn push(&mut self, arg: impl AsRef<[u8]>) {
        self.bytes.extend_from_slice(arg.as_ref());
        self.ends.push(self.bytes.len());
    }

    /// One argument, written in place.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    pub fn push_number(&mut self, number: u64) {
        self.push(itoa::Buffer::new().format(number));
    }

    /// Room for about so many arguments, of so many bytes in all.
    pub fn reserve(&mut self, n_args: usize, n_bytes: usize) {
        self.ends.reserve(n_args);
        self.bytes.reserve(n_bytes);
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        self.ends.iter().map(move |end| {
            let arg = &self.bytes[from..*end];
            from = *end;
            arg
        })
    }

    /// Each argument as a piece of the one buffer, which nobody copies.
    pub(super) fn pieces(self: &Arc<Self>) -> impl Iterator<Item = Bytes> {
        let whole = Bytes::from_owner(Whole(Arc::clone(self)));
        let mut from = 0;
        self.ends.iter().map(move |end| {
            let piece = whole.slice(from..*end);
            from = *end;
            piece
        })
    }
}

struct Whole(Arc<Args>);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Script {
    Open,
    Reserve,
    Settle,
    Keep,
    Move,
    Rebuild,
    Audit,
}

impl Script {
    pub const ALL: [Script; 7] = [
        Script::Open,
        Script::Reserve,
        Script::Settle,
        Script::Keep,
        Script::Move,
        Script::Rebuild,
        Script::Audit,
    ];
}

/// A Redis reply, as far as the scripts use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Int(i64),
    Bytes(Bytes),
    Array(Vec<Reply>),
    Nil,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The script may or may not have run, whole or in part.
    #[error("the outcome of the call is not known: {0}")]
    Unknown(String),
    /// The script itself failed; what it wrote before that stands.
    #[error("the script failed: {0}")]
    Script(String),
    /// The host is gone and will not come back in this process.
    #[error("the stock host was stopped")]
    Stopped,
}

pub type HostFuture<'a, T = Reply> =
    Pin<Box<dyn Future<Output = Result<T, HostError>> + Send + 'a>>;

pub trait StockHost: Send + Sync {
    /// The identical call may be sent again after `Unknown`: scripts and the
    /// call protocol make that safe.
    fn run<'a>(
        &'a self,
        bucket: &'a BucketRef,
        script: Script,
        args: &'a Arc<Args>,
    ) -> HostFuture<'a>;

    /// Told before a sale opens: about this many orders will be held in the
    /// bucket. A host that keeps maps of its own makes room now, not while selling.
    fn make_room<'a>(&'a self, bucket: &'a BucketRef, orders: usize) -> HostFuture<'a, ()>;

    /// Whether a hold must carry its whole order: true of a host that outlives this
    /// process and so is the second copy of what was acknowledged.
    fn is_second_copy(&self) -> bool;

    /// What a bucket says of itself, if it is there. A host that ends with this process
    /// has nothing to tell.
    fn meta<'a>(&'a self, _: &'a BucketRef) -> HostFuture<'a, Option<Meta>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// A bucket's holds, from `at` on, 0 at first. One that is there all the time comes at
    /// least once, and maybe twice; one that comes or goes meanwhile may or may not.
    fn holds<'a>(&'a self, _: &'a BucketRef, _at: u64) -> HostFuture<'a, Holds> {
        Box::pin(std::future::ready(Ok(Holds::default())))
    }

    /// The keys that a bucket's orders were bought with, paged as its holds are.
    fn used_keys<'a>(&'a self, _: &'a BucketRef, _at: u64) -> HostFuture<'a, UsedKeys> {
        Box::pin(std::future::ready(Ok(UsedKeys::default())))
    }

    /// What a bucket keeps beside its holds, paged as they are.
    fn tail<'a>(&'a self, _: &'a BucketRef, _at: u64) -> HostFuture<'a, Tail> {
        Box::pin(std::future::ready(Ok(Tail::default())))
    }

    /// Every bucket there is, of whatever sale.
    fn buckets(&self) -> HostFuture<'_, Vec<BucketRef>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Where calls to the bucket cost least, for a host that has such a place.
    fn home(&self, bucket: &BucketRef) -> Option<tokio::runtime::Handle>;
}
