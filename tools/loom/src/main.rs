fn main() -> std::process::ExitCode {
    loom::cli::main()
}
