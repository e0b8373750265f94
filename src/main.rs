//! Words in, words out: see [`sandpod::cli`].

fn main() -> std::process::ExitCode {
    sandpod::cli::main()
}
