//! Certificates, looked at from outside.

use std::os::unix::fs::PermissionsExt;

use antipode_runtime::member::names::member_name;
use antipode_runtime::member::tls::member_id_of;
use x509_parser::parse_x509_certificate;

use super::*;

#[test]
fn the_authority_is_made_once_and_its_key_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let first = Authority::open(dir.path()).unwrap();
    let second = Authority::open(dir.path()).unwrap();
    assert_eq!(first.certificate(), second.certificate());
    assert_eq!(first.pin(), second.pin());
    let mode = std::fs::metadata(dir.path().join(KEY_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let (_, parsed) = parse_x509_certificate(first.certificate()).unwrap();
    assert!(parsed.is_ca());
    assert!(parsed.validity().is_valid());
}

#[test]
fn a_lost_or_foreign_half_is_told() {
    let dir = tempfile::tempdir().unwrap();
    Authority::open(dir.path()).unwrap();
    let key = dir.path().join(KEY_FILE);
    let good = std::fs::read(&key).unwrap();

    std::fs::remove_file(&key).unwrap();
    let error = Authority::open(dir.path()).unwrap_err();
    assert!(matches!(error, AuthorityError::Half { .. }), "{error:?}");

    std::fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = Authority::open(dir.path()).unwrap_err();
    assert!(matches!(error, AuthorityError::Broken { .. }), "another key: {error:?}");

    std::fs::write(&key, "nonsense").unwrap();
    assert!(matches!(Authority::open(dir.path()).unwrap_err(), AuthorityError::Broken { .. }));

    std::fs::write(&key, good).unwrap();
    Authority::open(dir.path()).unwrap();
}

#[test]
fn a_member_gets_our_name_and_its_own_key_and_nothing_it_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open(dir.path()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut wish = CertificateParams::new(["gateway.antipode".to_owned()]).unwrap();
    wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wish.distinguished_name = common_name("other.member.antipode");
    let request = wish.serialize_request(&key).unwrap();

    let issued = authority.sign_member("abc", request.der()).unwrap();

    let (_, parsed) = parse_x509_certificate(&issued.certificate).unwrap();
    assert!(!parsed.is_ca());
    assert_eq!(parsed.public_key().subject_public_key.data, key.public_key_raw());
    assert_eq!(member_id_of(&issued.certificate).as_deref(), Some("abc"));
    let names: Vec<_> = parsed.subject().iter_common_name().map(|n| n.as_str().unwrap()).collect();
    assert_eq!(names, [member_name("abc")]);
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth && !usage.any);
    let validity = parsed.validity();
    let days = (validity.not_after.timestamp() - validity.not_before.timestamp()) / 86_400;
    assert_eq!(days, 91, "90 days, and one for clocks that are behind");
    assert_eq!(parsed.raw_serial_as_string().replace(':', ""), issued.serial);
    parsed
        .verify_signature(Some(
            parse_x509_certificate(authority.certificate()).unwrap().1.public_key(),
        ))
        .unwrap();
}

#[test]
fn requests_that_prove_nothing_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open(dir.path()).unwrap();
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap();
    let mut forged = request.der().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert!(authority.sign_member("abc", &forged).is_err(), "a signature by nobody");
    assert!(authority.sign_member("abc", &[]).is_err(), "nothing");
    assert!(authority.sign_member("abc", &[0x30; 400]).is_err(), "noise");
    let long = vec![0x30; REQUEST_BYTES_MAX + 1];
    let error = authority.sign_member("abc", &long).unwrap_err();
    assert!(matches!(error, RequestError::TooLong { .. }));
}

#[test]
fn the_gateway_shows_its_authority_along() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open(dir.path()).unwrap();
    let own = authority.gateway_certificate().unwrap();
    assert_eq!(own.cert.len(), 2);
    assert_eq!(Pin::of(&own.cert[1]).unwrap(), authority.pin());
}
