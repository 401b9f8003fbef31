//! The `omendb` program; all of it is in the library.

fn main() -> std::process::ExitCode {
    omendb_cli::main()
}
