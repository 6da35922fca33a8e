//! What does the gate cost a buyer who may pass, and one who may not?

use std::time::{Duration, Instant};

use floodgate_engine::admission::{Gate, GateLimits, Shed};

use super::Figures;
use crate::shoot;

pub fn decisions(n: u32) -> Result<Figures, String> {
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
    let (admitted, admitted_ns) = shoot::run(ask(&open, n))?;
    let (let_through, shed_ns) = shoot::run(ask(&shut, n))?;
    // One token at the start, and one a second from there.
    if admitted != n || let_through > 10 {
        return Err(format!(
            "of {n} buyers {admitted} passed the open gate and {let_through} the shut one"
        ));
    }
    Ok(vec![
        ("admission_ns_admitted".into(), admitted_ns),
        ("admission_ns_shed".into(), shed_ns),
    ])
}

/// How many passed, and nanoseconds a decision.
async fn ask(gate: &Gate, n: u32) -> (u32, f64) {
    let mut passed = 0;
    let started = Instant::now();
    for buyer in 0..n {
        let decision: Result<_, Shed> = gate.admit(buyer).await;
        passed += u32::from(std::hint::black_box(decision).is_ok());
    }
    let nanos = started.elapsed().as_secs_f64() * 1e9 / f64::from(n);
    (passed, nanos)
}
