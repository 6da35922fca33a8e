//! Stock in a real Redis: what the host makes of its answers, what becomes of a cluster
//! whose servers stand still or hand buckets over, and a sale through all of it.

#[path = "../common/mod.rs"]
mod common;
#[path = "../provider/mod.rs"]
mod provider;
#[path = "../stampede/mod.rs"]
mod stampede;

mod cluster;
mod drills;
mod failover;
mod host;
mod orders;
mod recover;
mod recover_money;
mod rivals;
mod standing;
mod tls;

/// Sells one unit each to so many buyers a second. Buyers and units outlast the slowest
/// machine; the doors are closed after the last thing that happens to it.
fn long_sale(id: &str, buyers_a_second: u32) -> String {
    format!(
        r#"
attempts = 300000
users = 300000
connections = 64
quantity = 1
dropAfterMs = 600000
timeoutMs = 8000
outageSeconds = 600
retryShed = true

[mix]
doubleClickShare = 0.1
retryOnCutShare = 0.02
keyReuseShare = 0.01
cancelShare = 0.05
againShare = 0.02

[sale]
id = "{id}"
name = "{id}"
startsIn = 0.0
endsIn = 3600.0
payWindowSeconds = 1800
unitsPerUser = 1
buckets = 4

[sale.admission]
rate = 100000
burst = 100000

[[sale.skus]]
id = "unit"
name = "unit"
priceCent = 100
currency = "EUR"
units = 300000

[[phases]]
kind = "constant"
rate = {buyers_a_second}.0
seconds = 300.0
"#
    )
}
