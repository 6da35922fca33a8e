//! Three tellings of a sale, SKU by SKU. Pure, and one pass over each list: a sale
//! may have 10,000 SKUs in 4,096 buckets.

use std::fmt::Write as _;

use super::SkuReport;
use crate::domain::sale::Sale;
use crate::sale::{BucketAudit, Line};

/// SKUs of a bucket that a message names; what comes after is counted.
const SKUS_NAMED: usize = 5;

/// What each bucket's audit says about each SKU. `opened` is by position of the SKU.
pub(super) fn skus(sale: &Sale, opened: &[u64], audits: &[BucketAudit]) -> Vec<SkuReport> {
    let mut sums = vec![(Line::default(), 0_u64); sale.skus.len()];
    for audit in audits {
        for ((sum, drift), (line, by)) in sums.iter_mut().zip(audit.facts.iter().zip(audit.drift()))
        {
            sum.allotted += line.allotted;
            sum.held += line.held;
            sum.sold += line.sold;
            sum.withdrawn += line.withdrawn;
            *drift += by;
        }
    }
    let told = sums.into_iter().zip(opened).enumerate();
    told.map(|(at, ((sum, drift_host_ledger), opened))| {
        let Line {
            allotted,
            held,
            sold,
            withdrawn,
        } = sum;
        SkuReport {
            sku_id: sale.skus[at].id.to_string(),
            opened: *opened,
            available: allotted.saturating_sub(held + sold + withdrawn),
            held,
            sold,
            withdrawn,
            // Units between two buckets; with one bucket there are none.
            transfer: opened.saturating_sub(allotted),
            oversold: (held + sold).saturating_sub(opened - withdrawn.min(*opened)),
            drift_host_ledger,
            drift_ledger_store: 0,
        }
    })
    .collect()
}

/// What is wrong in a bucket, if anything is, in words that stay short.
pub(super) fn bucket(sale: &Sale, audit: &BucketAudit) -> Option<String> {
    if audit.is_equal() {
        return None;
    }
    let mut said = format!("bucket {}:", audit.bucket.0);
    let drift = audit.drift();
    let wrong: Vec<usize> = (0..drift.len()).filter(|at| drift[*at] > 0).collect();
    // Writing to a string cannot fail.
    for at in wrong.iter().take(SKUS_NAMED) {
        let (sku, host, facts) = (&sale.skus[*at].id, &audit.host.skus[*at], audit.facts[*at]);
        let _ = write!(
            said,
            " SKU {sku}: the host says {host:?}, the ledger's facts are {facts:?};"
        );
    }
    if wrong.len() > SKUS_NAMED {
        let _ = write!(said, " and {} more SKUs;", wrong.len() - SKUS_NAMED);
    }
    let _ = write!(
        said,
        " live orders: the host has {} with digest {}, the ledger {} with digest {}",
        audit.host.n_live, audit.host.digest, audit.n_live, audit.digest
    );
    Some(said)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::ids::BucketNo;
    use crate::domain::sale::{RawSale, SKUS_MAX};
    use crate::stock::{AuditReply, Counters};

    fn sale(n_skus: usize) -> Sale {
        let skus: Vec<_> = (0..n_skus)
            .map(|n| {
                json!({"id": format!("s{n:05}"), "name": "s", "priceCent": 1, "currency": "EUR", "units": 100})
            })
            .collect();
        let raw = json!({
            "id": "tea", "name": "Tea", "unitsPerUser": 1, "skus": skus,
            "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z",
        });
        let raw: RawSale = serde_json::from_value(raw).expect("a raw sale");
        raw.check().expect("a sale")
    }

    fn audit(bucket: u16, facts: &[Line]) -> BucketAudit {
        let counters = |line: &Line| Counters {
            allotted: line.allotted,
            available: line.available(),
            held: line.held,
            sold: line.sold,
            withdrawn: line.withdrawn,
        };
        BucketAudit {
            bucket: BucketNo(bucket),
            epoch: 1,
            host: AuditReply {
                digest: 7,
                n_live: 1,
                n_moves: 1,
                skus: facts.iter().map(counters).collect(),
            },
            facts: facts.into(),
            digest: 7,
            n_live: 1,
        }
    }

    const LINE: Line = Line {
        allotted: 50,
        held: 3,
        sold: 2,
        withdrawn: 1,
    };

    #[test]
    fn the_largest_sale_is_one_pass() {
        let sale = sale(SKUS_MAX);
        let opened = vec![64 * 50; SKUS_MAX];
        let mut audits: Vec<_> = (0..64).map(|b| audit(b, &vec![LINE; SKUS_MAX])).collect();
        audits[9].host.skus[9_999].held += 4;
        let reports = skus(&sale, &opened, &audits);
        assert_eq!(reports.len(), SKUS_MAX);
        assert_eq!(reports[9_999].drift_host_ledger, 4);
        assert_eq!(reports[1].sku_id, "s00001");
        for report in &reports {
            assert_eq!((report.held, report.sold), (64 * 3, 64 * 2));
            assert_eq!((report.available, report.transfer), (64 * 44, 0));
            assert_eq!((report.withdrawn, report.oversold), (64, 0));
        }
        let drift: u64 = reports.iter().map(|r| r.drift_host_ledger).sum();
        assert_eq!(drift, 4);
        assert_eq!(bucket(&sale, &audits[8]), None);
        let said = bucket(&sale, &audits[9]).expect("it differs");
        assert!(said.contains("SKU s09999: the host says"), "{said}");
    }

    #[test]
    fn a_bucket_that_lost_everything_is_told_shortly() {
        let sale = sale(SKUS_MAX);
        let mut lost = audit(3, &vec![LINE; SKUS_MAX]);
        lost.host = audit(3, &vec![Line::default(); SKUS_MAX]).host;
        let said = bucket(&sale, &lost).expect("it differs");
        assert!(said.contains("and 9995 more SKUs"), "{said}");
        assert!(said.len() < 2_000, "{said}");
    }

    #[test]
    fn what_was_never_opened_is_oversold() {
        let sale = sale(1);
        let live = |held, sold, withdrawn| {
            let line = Line {
                allotted: 9,
                held,
                sold,
                withdrawn,
            };
            skus(&sale, &[5], &[audit(0, &[line])])[0].oversold
        };
        assert_eq!(live(3, 2, 0), 0);
        assert_eq!(live(3, 3, 0), 1);
        assert_eq!(live(3, 2, 1), 1, "a withdrawn unit is not there to be sold");
    }
}
