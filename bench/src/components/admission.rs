//! What do the gate and the limits cost a buyer who may pass, and one who may not?

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use floodgate_engine::admission::{
    AdmissionMetrics, Asker, Cleared, Gate, GateLimits, Limits, Shed, Standing,
};
use floodgate_engine::config::{BuyerRules, Rate};
use floodgate_engine::domain::ids::{DeviceId, UserId};

use super::Figures;
use crate::shoot;

pub fn decisions(n: u32) -> Result<Figures, String> {
    let off = limits(&BuyerRules::default())?;
    let open = Gate::new(GateLimits {
        rate: 100_000_000,
        burst: 100_000_000,
        queue_max: 0,
        wait_max: Duration::ZERO,
        under_way_max: 4_096,
    });
    let shut = Gate::new(GateLimits {
        rate: 1,
        burst: 1,
        queue_max: 0,
        wait_max: Duration::ZERO,
        under_way_max: 4_096,
    });
    let (admitted, admitted_ns) = shoot::run(ask(&off, &open, n))?;
    let (let_through, shed_ns) = shoot::run(ask(&off, &shut, n))?;
    // One token at the start, and one a second from there.
    if admitted != n || let_through > 10 {
        return Err(format!(
            "of {n} buyers {admitted} passed the open gate and {let_through} the shut one"
        ));
    }
    let mut figures = vec![
        ("admission_ns_admitted".into(), admitted_ns),
        ("admission_ns_shed".into(), shed_ns),
    ];
    figures.extend(by_limits(n)?);
    Ok(figures)
}

fn limits(rules: &BuyerRules) -> Result<Limits, String> {
    let metrics = AdmissionMetrics::register(&prometheus::Registry::new());
    Ok(Limits::new(rules, 7, &metrics.map_err(|e| e.to_string())?))
}

/// How many passed, and nanoseconds a decision.
async fn ask(limits: &Limits, gate: &Gate, n: u32) -> (u32, f64) {
    let user = user(0);
    let mut passed = 0;
    let started = Instant::now();
    for buyer in 0..n {
        let asker = Asker {
            user: &user,
            device: None,
            ip: [127, 0, 0, 1].into(),
        };
        let decision: Result<_, Shed> = match limits.clear(buyer, &asker, Duration::ZERO).1 {
            Ok(cleared) => gate.admit(cleared).await,
            Err(shed) => Err(shed),
        };
        passed += u32::from(std::hint::black_box(decision).is_ok());
    }
    (passed, each(started, n))
}

fn each(started: Instant, n: u32) -> f64 {
    started.elapsed().as_secs_f64() * 1e9 / f64::from(n)
}

fn user(n: u32) -> UserId {
    UserId::parse(&format!("buyer-{n}")).expect("letters and digits")
}

/// Nanoseconds between two buyers: 100,000 a second.
const GAP: u32 = 10_000;

/// All three limits with tables of the usual size: every buyer is a new one with a
/// device, at one of 65,536 addresses; then the last of them come again at once.
fn by_limits(n: u32) -> Result<Figures, String> {
    let rate = |burst| {
        Some(Rate {
            interval: Duration::from_secs(1),
            burst,
        })
    };
    let limits = limits(&BuyerRules {
        per_user: rate(NonZeroU32::MIN),
        per_device: rate(NonZeroU32::MIN),
        per_ip: rate(NonZeroU32::MAX),
        keys_max: 262_144,
        ..BuyerRules::default()
    })?;
    let buyers: Vec<(u32, UserId, DeviceId)> = (0..n)
        .map(|n| (n, user(n), DeviceId::parse(&format!("phone-{n}"))))
        .map(|(n, user, device)| (n, user, device.expect("letters and digits")))
        .collect();
    let round = |buyers: &[(u32, UserId, DeviceId)], now: &dyn Fn(u32) -> u32| {
        let mut passed = 0;
        let started = Instant::now();
        for (n, user, device) in buyers {
            let asker = Asker {
                user,
                device: Some(device),
                ip: [10, 0, (n >> 8) as u8, *n as u8].into(),
            };
            let now = Duration::from_nanos(u64::from(now(*n)) * u64::from(GAP));
            let (_, cleared): (Standing, Result<Cleared<()>, Shed>) = limits.clear((), &asker, now);
            passed += u32::from(std::hint::black_box(cleared).is_ok());
        }
        (passed, each(started, buyers.len() as u32))
    };
    // Half a second's worth: none of them may come again yet.
    let last = &buyers[buyers.len() - buyers.len().min(50_000)..];
    let (passed, passed_ns) = round(&buyers, &|n| n);
    let (again, limited_ns) = round(last, &|_| n);
    // Hardly a set is full, so hardly anybody is not remembered.
    if passed != n || again as usize > last.len() / 100 {
        return Err(format!(
            "{passed} of {n} buyers were within their limits, and {again} of {} when they came \
             again at once",
            last.len()
        ));
    }
    Ok(vec![
        ("limits_ns_passed".into(), passed_ns),
        ("limits_ns_limited".into(), limited_ns),
    ])
}
