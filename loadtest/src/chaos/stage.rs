//! Everything that a bad day happens to: servers behind proxies, and the engine.
//! Here is how each fault is done, and how all of it is undone.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::plan::{Fault, Kind};
use super::proxy::{Proxy, Rule, Way};
use crate::servers::{self, Engine, Postgres, Redis, ServerError, StoreKind, postgres, redis};

pub struct Stage {
    // Dropped in this order: who asks goes before who answers.
    pub engine: Engine,
    servers: Vec<Member>,
    store: Option<Store>,
}

struct Store {
    proxy: Proxy,
    postgres: Postgres,
}

struct Member {
    proxy: Proxy,
    redis: Redis,
    /// Follows it, in a cluster.
    replica: Option<(Proxy, Redis)>,
    /// What it had some faults ago, the oldest first.
    backups: VecDeque<Vec<u8>>,
}

/// The oldest dump that is kept was taken before so many faults.
const BACKUPS_MAX: usize = 3;
const STEP: Duration = Duration::from_millis(20);
/// Calls that come several times.
const CALLS_REPEATED: u32 = 20;
/// Few enough that no batch is refused whole: then it would be the schema, and not a row.
const REFUSE_SOME: &str =
    "ALTER TABLE orders ADD CONSTRAINT no_more CHECK (hashtext(user_id) % 31 <> 0) NOT VALID";
const REFUSE_NONE: &str = "ALTER TABLE orders DROP CONSTRAINT no_more";

impl Stage {
    /// `count` servers: one alone, or a cluster.
    pub fn open(
        folder: &Path,
        program: &Path,
        base: &str,
        count: usize,
        store: StoreKind,
    ) -> Result<Self, ServerError> {
        let proxies = (0..count)
            .map(|_| Proxy::open())
            .collect::<Result<Vec<_>, _>>()?;
        let ports: Vec<u16> = proxies.iter().map(|proxy| proxy.port).collect();
        let servers = if count == 1 {
            vec![Redis::alone(&folder.join("redis"))?]
        } else {
            let told: Vec<_> = ports.iter().copied().map(Some).collect();
            redis::cluster(folder, &told)?
        };
        let mut members = Vec::with_capacity(count);
        for (no, (proxy, redis)) in proxies.into_iter().zip(servers).enumerate() {
            proxy.lead_to(redis.port);
            members.push(Member {
                replica: match count {
                    1 => None,
                    _cluster => Some(replica(&redis, &folder.join(format!("replica-{no}")))?),
                },
                proxy,
                redis,
                backups: VecDeque::new(),
            });
        }
        let store = match store {
            StoreKind::Sqlite => None,
            StoreKind::Postgres => Some(Store {
                proxy: Proxy::open()?,
                postgres: Postgres::start()?,
            }),
        };
        let store_port = store.as_ref().map(|store| {
            store.proxy.lead_to(store.postgres.port);
            store.proxy.port
        });
        let config = servers::configuration(base, &ports, store_port, folder)?;
        let engine = Engine::start(program, &folder.join("engine"), &config)?;
        Ok(Self {
            engine,
            servers: members,
            store,
        })
    }

    pub fn log(&self) -> PathBuf {
        self.engine.log()
    }

    pub fn n_repeated(&self) -> u64 {
        self.proxies().map(Proxy::n_repeated).sum()
    }

    /// Keeps what the servers have now, for a fault of later.
    pub fn remember(&mut self) -> Result<(), ServerError> {
        for member in &mut self.servers {
            if member.backups.len() == BACKUPS_MAX {
                member.backups.pop_front();
            }
            member.backups.push_back(member.redis.backup()?);
        }
        Ok(())
    }

    /// Plays one fault to its end: afterwards everybody runs and every line is whole.
    /// `bucket` is the common part of the keys of a bucket that sells. Whoever wants the
    /// day to end ends what lasts, by `ending`.
    pub fn play(
        &mut self,
        fault: &Fault,
        bucket: &str,
        ending: &dyn Fn() -> bool,
    ) -> Result<(), ServerError> {
        let last = Duration::from_millis(fault.ms);
        let n_servers = self.servers.len();
        let Some(member) = self.servers.get_mut(fault.server % n_servers.max(1)) else {
            return Ok(());
        };
        let hold = || wait(last, ending);
        let under = |proxy: &Proxy, rule| {
            proxy.rule(rule);
            hold();
            proxy.rule(Rule::Pass);
        };
        let rule = |rule| under(&member.proxy, rule);
        match fault.kind {
            Kind::RedisEmpty => {
                member.redis.kill();
                member.redis.forget_files()?;
                member.redis.start_again()?;
            }
            Kind::RedisOlder => {
                member.redis.kill();
                if let Some(oldest) = member.backups.front() {
                    member.redis.put_back(oldest)?;
                }
                member.redis.start_again()?;
            }
            Kind::RedisErased => {
                for member in &mut self.servers {
                    member.redis.kill();
                    member.redis.forget_files()?;
                    member.backups.clear();
                }
                for member in &mut self.servers {
                    member.redis.start_again()?;
                }
            }
            Kind::RedisFailover => fail_over(member, hold)?,
            Kind::FlushAll => drop(member.redis.ask(&["FLUSHALL"])?),
            Kind::ScriptFlush => drop(member.redis.ask(&["SCRIPT", "FLUSH"])?),
            Kind::BucketLost => {
                for member in &self.servers {
                    lose(&member.redis, bucket)?;
                }
            }
            Kind::RedisFrozen => {
                member.redis.signal(Signal::STOP)?;
                hold();
                member.redis.signal(Signal::CONT)?;
            }
            Kind::RedisBusy => busy(&member.redis, hold)?,
            Kind::RedisFull => {
                member.redis.ask(&["CONFIG", "SET", "maxmemory", "1"])?;
                hold();
                member.redis.ask(&["CONFIG", "SET", "maxmemory", "0"])?;
            }
            Kind::LinesCut => member.proxy.cut(),
            Kind::LinesClosed => rule(Rule::Closed),
            // Each piece waits, so a tenth of the time is slow enough.
            Kind::LinesSlow => rule(Rule::Slow(last / 10)),
            Kind::RepliesLost => rule(Rule::Lost(Way::Down)),
            Kind::CallsLost => rule(Rule::Lost(Way::Up)),
            Kind::CallCutShort => rule(Rule::CutAfter(Way::Up, fault.bytes)),
            Kind::ReplyCutShort => rule(Rule::CutAfter(Way::Down, fault.bytes)),
            Kind::HalfClosed => rule(Rule::HalfClosed(fault.way)),
            Kind::CallsRepeated => {
                member.proxy.repeat(CALLS_REPEATED);
                hold();
            }
            Kind::EngineKilled => {
                self.engine.kill();
                self.engine.start_again()?;
            }
            Kind::EngineFrozen => {
                self.engine.signal(Signal::STOP)?;
                hold();
                self.engine.signal(Signal::CONT)?;
            }
            Kind::LedgerLost => {
                self.engine.kill();
                self.engine.lose_ledger()?;
                self.recover()?;
            }
            Kind::LedgerOlder => {
                self.engine.kill();
                self.engine.copy_ledger()?;
                self.engine.start_again()?;
                hold();
                self.engine.kill();
                self.engine.put_back_ledger()?;
                self.recover()?;
            }
            Kind::StoreKilled => {
                // Not in the plan of a day without one; likewise below.
                if let Some(store) = &mut self.store {
                    store.postgres.kill()?;
                    hold();
                    store.postgres.start_again()?;
                }
            }
            Kind::StoreFrozen => {
                if let Some(store) = &self.store {
                    store.postgres.signal(Signal::STOP)?;
                    hold();
                    store.postgres.signal(Signal::CONT)?;
                }
            }
            Kind::StoreClosed => {
                if let Some(store) = &self.store {
                    under(&store.proxy, Rule::Closed);
                }
            }
            Kind::StoreCutShort => {
                if let Some(store) = &self.store {
                    under(&store.proxy, Rule::CutAfter(Way::Down, fault.bytes));
                }
            }
            Kind::StoreErased => {
                if let Some(store) = &self.store {
                    store.postgres.sql(postgres::NOTHING)?;
                }
            }
            Kind::StoreOlder => {
                if let Some(store) = &self.store {
                    let backup = store.postgres.backup()?;
                    hold();
                    store.postgres.put_back(&backup)?;
                }
            }
            Kind::RowsRefused => {
                if let Some(store) = &self.store {
                    store.postgres.sql(REFUSE_SOME)?;
                    hold();
                    store.postgres.sql(REFUSE_NONE)?;
                }
            }
        }
        Ok(())
    }

    /// What the servers had before is of another ledger, which no engine serves any more.
    fn recover(&mut self) -> Result<(), ServerError> {
        self.engine.recover()?;
        for member in &mut self.servers {
            member.backups.clear();
        }
        self.engine.start_again()
    }

    /// Before all servers of Redis.
    fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.servers.iter().flat_map(|member| {
            let replica = member.replica.as_ref().map(|(proxy, _)| proxy);
            std::iter::once(&member.proxy).chain(replica)
        })
    }

    /// No fault stays behind: nothing is repeated any more, every line is new.
    pub fn heal(&self) {
        for proxy in self.proxies() {
            proxy.repeat(0);
            proxy.rule(Rule::Pass);
            proxy.cut();
        }
        if let Some(store) = &self.store {
            store.proxy.rule(Rule::Pass);
            store.proxy.cut();
        }
    }
}

fn replica(of: &Redis, folder: &Path) -> Result<(Proxy, Redis), ServerError> {
    let proxy = Proxy::open()?;
    let redis = of.replica(folder, proxy.port)?;
    proxy.lead_to(redis.port);
    redis.until_even()?;
    Ok((proxy, redis))
}

/// The replica has not heard the last writes of its primary, which stands still, and takes
/// its place. In the end the two have changed their parts.
fn fail_over(member: &mut Member, hold: impl Fn()) -> Result<(), ServerError> {
    let Some((proxy, replica)) = &mut member.replica else {
        // Not in the plan of a day without one.
        return Ok(());
    };
    replica.may_follow(false)?;
    member.redis.ask(&["CLIENT", "KILL", "TYPE", "replica"])?;
    hold();
    member.redis.signal(Signal::STOP)?;
    replica.ask(&["CLUSTER", "FAILOVER", "TAKEOVER"])?;
    hold();
    // It may take itself for the primary for a moment.
    member.redis.signal(Signal::CONT)?;
    replica.may_follow(true)?;
    member.redis.until_even()?;
    std::mem::swap(&mut member.redis, replica);
    std::mem::swap(&mut member.proxy, proxy);
    Ok(())
}

/// Takes the keys of a bucket from the server, if it has them.
fn lose(redis: &Redis, bucket: &str) -> Result<(), ServerError> {
    let names = ["meta", "stock", "orders", "users", "moves", "tail"];
    for name in names {
        match redis.ask(&["UNLINK", &format!("{bucket}:{name}")]) {
            Ok(_) => {}
            // Another one of the cluster has it.
            Err(ServerError::Said(why)) if why.contains("MOVED") => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Everybody else is told BUSY meanwhile.
fn busy(redis: &Redis, hold: impl FnOnce()) -> Result<(), ServerError> {
    redis.ask(&["CONFIG", "SET", "busy-reply-threshold", "20"])?;
    std::thread::scope(|scope| {
        // It is told that its script was killed, which is no news.
        let stranger = scope.spawn(|| redis.ask(&["EVAL", "while true do end", "0"]));
        hold();
        while !stranger.is_finished() {
            let _ = redis.ask(&["SCRIPT", "KILL"]);
            std::thread::sleep(STEP);
        }
    });
    Ok(())
}

fn wait(time: Duration, ending: &dyn Fn() -> bool) {
    let until = Instant::now() + time;
    while Instant::now() < until && !ending() {
        std::thread::sleep(STEP);
    }
}
