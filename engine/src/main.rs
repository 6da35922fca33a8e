//! The `floodgate` binary; everything is in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Fail points exist only in test builds; there FAILPOINTS drives them.
    let _scenario = fail::FailScenario::setup();
    floodgate_engine::cli::main()
}
