//! The command-line program: see [`sandpod::cli`].

#[global_allocator]
static ALLOCATOR: sandpod::sys::allocator::Allocator = sandpod::sys::allocator::Allocator;

fn main() -> std::process::ExitCode {
    sandpod::cli::main()
}
