//! Stock in a real Redis: what the host makes of its answers, what becomes of a cluster
//! whose servers stand still or hand buckets over, and a sale through all of it.

#[path = "../common/mod.rs"]
mod common;
#[path = "../stampede/mod.rs"]
mod stampede;

mod cluster;
mod drills;
mod host;
mod orders;
mod recover;
mod standing;
