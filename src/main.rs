//! The program `vestibule`. All it does is in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The only other one to install a provider would be ourselves; then the same one stands already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    vestibule::cli::main()
}
