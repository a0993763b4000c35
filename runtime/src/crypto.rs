//! The one TLS provider of every Antipode program: aws-lc-rs, whose default key exchange is the
//! hybrid X25519MLKEM768.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// Makes aws-lc-rs the process's default provider. Calling it again does nothing.
pub fn install() {
    // An error means that a provider stands already, which is what is wanted.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// The provider itself, for configurations that name it rather than rely on the default.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_twice_and_prefers_post_quantum() {
        install();
        install();
        let first = provider().kx_groups[0].name();
        assert_eq!(first, rustls::NamedGroup::X25519MLKEM768);
        assert!(CryptoProvider::get_default().is_some());
    }
}
