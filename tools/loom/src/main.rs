fn main() -> std::process::ExitCode {
    loom::commands::cli::main()
}
