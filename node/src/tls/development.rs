//! A certificate for development, made at start and never stored.

use rustls::pki_types::PrivateKeyDer;

use super::certificate::Certificate;

/// Self-signed, for `localhost` and the loopback addresses.
pub(super) fn certificate() -> Result<Certificate, rcgen::Error> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    let key = Certificate::pair(vec![made.cert.der().clone()], key)
        .map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    Ok(Certificate { names: vec!["localhost".to_owned()], key })
}
