//! `cargo exo`.

fn main() -> std::process::ExitCode {
    exo_cmd::cli::main()
}
