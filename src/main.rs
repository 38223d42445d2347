//! The command line: see `convzoo --help`.

fn main() -> std::process::ExitCode {
    convzoo::cli::main()
}
