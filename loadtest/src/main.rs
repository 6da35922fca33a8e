//! `floodgate-loadtest`; see `cli.rs`.

fn main() -> std::process::ExitCode {
    floodgate_loadtest::cli::main()
}
