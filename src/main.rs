//! The `backout` program: migrations you can take back. Everything is in the library and in `cli`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
