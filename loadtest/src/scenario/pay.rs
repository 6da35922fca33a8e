//! The table `[pay]`, checked.

use super::checked::{ScenarioError, check_id, wrong};
use super::raw::RawPay;
use crate::pay::Pay;

/// Copies beyond the first: the journal has room for a few thousand lines a buyer, a
/// provider gives up before.
const REPEATS_MAX: u32 = 20;
/// Who pays late is awaited: a run should end.
const WINDOW_SECONDS_MAX: u64 = 600;
const CHANNELS_MAX: usize = 16;

pub(super) fn check_pay(raw: &RawPay, window_seconds: Option<u64>) -> Result<Pay, ScenarioError> {
    let payers = [
        ("pay.onTimeShare", raw.on_time_share),
        ("pay.lateShare", raw.late_share),
        ("pay.twiceShare", raw.twice_share),
        ("pay.lieShare", raw.lie_share),
    ];
    let others = [
        ("pay.failedFirstShare", raw.failed_first_share),
        ("pay.reorderShare", raw.reorder_share),
        ("pay.refundShare", raw.refund_share),
        ("pay.restockShare", raw.restock_share),
    ];
    for (field, share) in payers.into_iter().chain(others) {
        if !(0.0..=1.0).contains(&share) {
            return Err(wrong(field, share, "use 0 to 1"));
        }
    }
    let sum: f64 = payers.iter().map(|(_, share)| share).sum();
    if sum > 1.0 + 1e-9 {
        return Err(wrong(
            "pay",
            sum,
            "a winner pays in one way: onTimeShare, lateShare, twiceShare and lieShare add up to at most 1",
        ));
    }
    if raw.repeats_max > REPEATS_MAX {
        return Err(wrong("pay.repeatsMax", raw.repeats_max, "use 0 to 20"));
    }
    if !(1..=60_000).contains(&raw.delay_ms) {
        return Err(wrong("pay.delayMs", raw.delay_ms, "use 1 to 60,000"));
    }
    let Some(window_s) = window_seconds.filter(|&window| window > 0) else {
        return Err(wrong(
            "sale.payWindowSeconds",
            window_seconds.map_or("none".to_owned(), |s| s.to_string()),
            "winners pay: say how long they may take",
        ));
    };
    if raw.late_share > 0.0 && window_s > WINDOW_SECONDS_MAX {
        return Err(wrong(
            "sale.payWindowSeconds",
            window_s,
            "some pay late, and the run waits for them: use at most 600",
        ));
    }
    if raw.channels.is_empty() || raw.channels.len() > CHANNELS_MAX {
        return Err(wrong(
            "pay.channels",
            raw.channels.len(),
            "use 1 to 16 of them",
        ));
    }
    for (at, channel) in raw.channels.iter().enumerate() {
        check_id(&format!("pay.channels[{at}]"), channel, 64)?;
    }
    Ok(Pay {
        on_time: raw.on_time_share,
        late: raw.late_share,
        twice: raw.twice_share,
        lie: raw.lie_share,
        failed_first: raw.failed_first_share,
        reorder: raw.reorder_share,
        repeats_max: raw.repeats_max,
        refund: raw.refund_share,
        restock: raw.restock_share,
        delay_ms: raw.delay_ms,
        window_ms: window_s.saturating_mul(1_000),
        channels: raw.channels.clone(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::pay::Payer;
    use crate::scenario::{Overrides, Scenario};

    const PAY: &str = include_str!("../../scenarios/pay.toml");

    fn refused(from: &str, to: &str) -> String {
        assert!(PAY.contains(from), "the scenario no longer says {from:?}");
        let text = PAY.replacen(from, to, 1);
        let error = Scenario::parse(&text, &Overrides::default()).unwrap_err();
        error.to_string()
    }

    #[test]
    fn the_scenario_deals_every_way_to_pay_and_grants_one_of_two_skus() {
        let scenario = Scenario::parse(PAY, &Overrides::default()).unwrap();
        let plan = &scenario.plan;
        for payer in [
            Payer::OnTime,
            Payer::Late,
            Payer::Twice,
            Payer::LiedAbout,
            Payer::Never,
        ] {
            let count = (0..2_000).filter(|&i| plan.payer(i) == payer).count();
            assert!(count > 20, "{payer:?}: {count}");
        }
        let works = scenario.sale.defined.skus.iter().map(|sku| &sku.work);
        let (with, without): (Vec<_>, Vec<_>) = works.partition(|work| work.is_some());
        assert_eq!((with.len(), without.len()), (1, 1));
        // The definition goes to the engine as it stands in the file.
        let body = scenario.sale.to_json(jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(body["skus"][0]["grant"]["validDays"], 365);
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        let text = refused("onTimeShare = 0.5", "onTimeShare = 0.9");
        assert!(text.contains("pay") && text.contains("at most 1"), "{text}");
        let text = refused("lateShare = 0.1", "lateShare = -0.1");
        assert!(text.contains("pay.lateShare: -0.1"), "{text}");
        let text = refused("repeatsMax = 3", "repeatsMax = 21");
        assert!(text.contains("pay.repeatsMax: 21"), "{text}");
        let text = refused("payWindowSeconds = 12", "payWindowSeconds = 601");
        assert!(
            text.contains("601") && text.contains("at most 600"),
            "{text}"
        );
        let text = refused("payWindowSeconds = 12", "payWindowSeconds = 0");
        assert!(text.contains("how long they may take"), "{text}");
        let text = refused("delayMs = 1500", "delayMs = 0");
        assert!(text.contains("pay.delayMs: 0"), "{text}");
        let text = refused("\"wallet\"", "\"wal let\"");
        assert!(text.contains("pay.channels[1]"), "{text}");
        let text = refused("refundShare", "refundsShare");
        assert!(
            text.contains("refundsShare") && text.contains("refundShare"),
            "{text}"
        );
    }
}
