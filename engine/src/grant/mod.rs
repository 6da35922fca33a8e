//! Grants: what a paid order lets its buyer do.
//!
//! An entitlement is written by the desk, beside the order that paid for it. This room
//! reads it, hands out short-lived tokens for it (`token`), says whether a token that
//! comes back still counts, and counts the heartbeats of players
//! (`heartbeat`). It writes nothing to the ledger: a licence for a device is asked of the
//! desk.

mod choose;
mod heartbeat;
mod metrics;
pub mod token;

use std::sync::Arc;

use floodgate_ledger::{EntityRef, Ledger};
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

pub use self::choose::{Denied, licensable};
pub use self::heartbeat::Beat;
pub use self::metrics::{GrantMetrics, LicenseResult};
pub use self::token::{Kind, TokenError};

use self::heartbeat::Heartbeats;
use self::metrics::{BeatResult, CheckResult};
use self::token::{Claims, Keys, Token};
use crate::config::{GrantConfig, TokenKeys};
use crate::domain::codec;
use crate::domain::entitlement::Entitlement;
use crate::domain::ids::{DeviceId, SaleId, SessionId, UserId, WorkId};
use crate::domain::time::{Clock, UnixMs};
use crate::sale::{FactError, Revoked};

const ENTITLEMENT: floodgate_ledger::Kind = floodgate_ledger::Kind(6);

/// Entitlements of one buyer that are looked at: more than the orders of many sales give.
const OWN_MAX: usize = 10_000;
/// Sessions whose last heartbeat is remembered; some 17 MB when all are.
const SESSIONS_MAX: usize = 262_144;

pub struct GrantParts {
    pub config: GrantConfig,
    pub keys: TokenKeys,
    pub ledger: Ledger,
    pub clock: Arc<dyn Clock>,
    /// What the desks tell of.
    pub revoked: Arc<Revoked>,
    pub metrics: GrantMetrics,
    /// Drawn for this run of the engine, and for no other.
    pub run: u64,
    /// Of the hashes of sessions.
    pub seed: u64,
}

pub struct Grants {
    config: GrantConfig,
    keys: Keys,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    metrics: GrantMetrics,
    run: u64,
    seed: u64,
    revoked: Arc<Revoked>,
    heartbeats: Mutex<Heartbeats>,
}

/// An entitlement as it stands in the ledger.
#[derive(Debug, Clone)]
pub struct Held {
    pub sale: Option<SaleId>,
    pub entitlement: Entitlement,
}

/// A token, and where it leads.
#[derive(Debug, Clone)]
pub struct Issued {
    pub token: String,
    pub url: String,
    pub expires_at: UnixMs,
}

/// Why a token that was shown does not count here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Token(TokenError),
    /// It is for another device or another work.
    Foreign,
    Revoked,
}

impl Refused {
    fn result(self) -> CheckResult {
        match self {
            Self::Token(TokenError::Forged) => CheckResult::Forged,
            Self::Token(TokenError::Kind) => CheckResult::Kind,
            Self::Token(TokenError::Expired) => CheckResult::Expired,
            Self::Token(TokenError::Early) => CheckResult::Early,
            Self::Foreign => CheckResult::Foreign,
            Self::Revoked => CheckResult::Revoked,
        }
    }
}

impl Grants {
    pub fn new(parts: GrantParts) -> Self {
        Self {
            keys: Keys::new(&parts.keys),
            config: parts.config,
            ledger: parts.ledger,
            clock: parts.clock,
            metrics: parts.metrics,
            run: parts.run,
            seed: parts.seed,
            revoked: parts.revoked,
            heartbeats: Mutex::new(Heartbeats::new(SESSIONS_MAX)),
        }
    }

    /// All that a buyer has, what is expired or revoked as well; the newest first.
    pub fn held_by(&self, user: &UserId) -> Result<Vec<Held>, FactError> {
        let refs = self
            .ledger
            .by_owner(user.as_bytes(), ENTITLEMENT, None, OWN_MAX)?;
        let mut held = Vec::with_capacity(refs.len());
        for at in &refs {
            held.extend(self.load(at)?);
        }
        held.sort_by_key(|h| std::cmp::Reverse(h.entitlement.granted_at));
        Ok(held)
    }

    fn load(&self, at: &EntityRef) -> Result<Option<Held>, FactError> {
        let Some(found) = self.ledger.entity(&at.group, at.kind, &at.id)? else {
            return Ok(None);
        };
        let entitlement =
            codec::decode_entitlement(&found.body).map_err(|source| FactError::Body {
                seq: found.seq.0,
                source,
            })?;
        Ok(Some(Held {
            sale: SaleId::parse_bytes(&at.group).ok(),
            entitlement,
        }))
    }

    /// A token for this device, or why it gets none.
    pub fn issue(
        &self,
        kind: Kind,
        user: &UserId,
        device: &DeviceId,
        work: &WorkId,
    ) -> Result<Result<Issued, Denied>, FactError> {
        // Before the ledger is read: what is revoked after this is revoked in memory for
        // as long as this token may live.
        let now = self.clock.now();
        let held = self.held_by(user)?;
        let own = held.iter().map(|h| &h.entitlement);
        let entitlement = match choose::usable(own, work, device, now) {
            Ok(entitlement) => entitlement,
            Err(denied) => return Ok(Err(denied)),
        };
        let (life, url) = match kind {
            Kind::Play => (self.config.play_life, &self.config.play_url),
            Kind::Download => (self.config.download_life, &self.config.download_url),
        };
        let expires_at = now.plus(life).min(entitlement.valid_until);
        let token = self.keys.sign(&Claims {
            kind,
            entitlement: &entitlement.id,
            user,
            device,
            work,
            expires_at,
            run: self.run,
        });
        Ok(Ok(Issued {
            url: url.fill(work.as_str(), &token),
            token,
            expires_at,
        }))
    }

    /// Whether this token lets this device have this work now. Asked for every piece of
    /// a film, so it allocates nothing and reads memory alone, but for tokens that an
    /// earlier run of the engine made: what was revoked then, only the ledger knows.
    pub fn check(
        &self,
        kind: Kind,
        token: &[u8],
        device: &[u8],
        work: &[u8],
    ) -> Result<Result<(), Refused>, FactError> {
        let answer = self.believe(kind, token, |token| {
            token.device().as_bytes() == device && token.work().as_bytes() == work
        })?;
        Ok(answer.map(|_| ()))
    }

    /// The one way to a token that counts, and the one place that counts checks.
    fn believe(
        &self,
        kind: Kind,
        token: &[u8],
        fits: impl FnOnce(&Token) -> bool,
    ) -> Result<Result<Token, Refused>, FactError> {
        let answer = match self.keys.read(kind, token, self.clock.now()) {
            Err(error) => Err(Refused::Token(error)),
            Ok(token) if !fits(&token) => Err(Refused::Foreign),
            Ok(token) if self.is_revoked(&token)? => Err(Refused::Revoked),
            Ok(token) => Ok(token),
        };
        let result = match &answer {
            Ok(_) => CheckResult::Ok,
            Err(refused) => refused.result(),
        };
        self.metrics.checked(kind, result);
        Ok(answer)
    }

    fn is_revoked(&self, token: &Token) -> Result<bool, FactError> {
        if token.run == self.run {
            return Ok(self.revoked.has(token.entitlement()));
        }
        // The last id below the one behind it: itself, or it is not there.
        let behind = [token.entitlement().as_bytes(), &[0]].concat();
        let last = self
            .ledger
            .by_owner(token.user().as_bytes(), ENTITLEMENT, Some(&behind), 1)?;
        let Some(at) = last
            .first()
            .filter(|at| at.id == token.entitlement().as_bytes())
        else {
            return Ok(true);
        };
        let held = self.load(at)?;
        Ok(held.is_none_or(|h| h.entitlement.revoked_at.is_some()))
    }

    /// A player's word that it plays. Sessions are a device's own: nobody else's session
    /// of the same name is meant.
    pub fn beat(
        &self,
        token: &[u8],
        session: &SessionId,
        sequence: u64,
    ) -> Result<Result<Beat, Refused>, FactError> {
        let token = match self.believe(Kind::Play, token, |_| true)? {
            Ok(token) => token,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut hash = Xxh3::with_seed(self.seed);
        for part in [token.user(), token.device(), session.as_str()] {
            hash.update(part.as_bytes());
            // Zero cannot stand in an id, so the parts cannot run into each other.
            hash.update(&[0]);
        }
        let beat = self.heartbeats.lock().beat(hash.digest128(), sequence);
        self.metrics.beat(match beat {
            Beat::Counted => BeatResult::Counted,
            Beat::Duplicate { .. } => BeatResult::Duplicate,
        });
        Ok(Ok(beat))
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub fn metrics(&self) -> &GrantMetrics {
        &self.metrics
    }
}

#[cfg(test)]
mod tests;
