//! How long does one buyer wait for a durable win when nobody else buys?

use std::path::Path;
use std::time::Instant;

use super::{Figures, at_share_ms};
use crate::engine::Server;
use crate::shoot::{Line, run};

/// First calls find cold caches; they are not measured.
const WARM_UP: usize = 50;

/// `n` purchases one after another over one connection.
pub fn purchases(n: usize, out: &Path) -> Result<Figures, String> {
    let units = u32::try_from(n + WARM_UP).map_err(|e| e.to_string())?;
    let engine = Server::engine(out, units)?;
    let mut line = Line::to(engine.public())?;
    let mut took = run(async {
        let mut took = Vec::with_capacity(n);
        for buyer in 0..n + WARM_UP {
            let request = line.purchase(&format!("buyer-{buyer}"), "key");
            let started = Instant::now();
            let status = line.call(&request).await.map_err(|e| e.to_string())?;
            let elapsed = started.elapsed();
            if status != 201 {
                return Err(format!("buyer {buyer} was answered {status}, not 201"));
            }
            if buyer >= WARM_UP {
                took.push(elapsed);
            }
        }
        Ok::<_, String>(took)
    })??;
    Ok(vec![
        ("idle_order_p50_ms".into(), at_share_ms(&mut took, 0.5)),
        ("idle_order_p99_ms".into(), at_share_ms(&mut took, 0.99)),
    ])
}
