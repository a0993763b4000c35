//! Names by SNI, and reload with good and bad files.

use rcgen::{CertifiedKey as Made, generate_simple_self_signed};
use tempfile::TempDir;

use super::*;
use crate::metrics::Metrics;

#[test]
fn the_name_chooses_the_certificate() {
    let dir = TempDir::new().unwrap();
    let sources = [
        write(&dir, "one", &["one.example"]),
        write(&dir, "wild", &["*.wild.example", "wild.example"]),
        write(&dir, "exact", &["exact.wild.example"]),
    ];
    let certificates = Certificates::load(&sources).unwrap();
    check(&certificates, Some("one.example"), "one.example");
    check(&certificates, Some("ONE.Example"), "one.example");
    check(&certificates, Some("a.wild.example"), "*.wild.example");
    check(&certificates, Some("exact.wild.example"), "exact.wild.example");
    check(&certificates, Some("a.b.wild.example"), "one.example");
    check(&certificates, Some("other.example"), "one.example");
    check(&certificates, None, "one.example");
}

#[test]
fn a_changed_file_is_taken_up_and_a_bad_one_is_not() {
    let dir = TempDir::new().unwrap();
    let files = write(&dir, "a", &["before.example"]);
    let certificates = Certificates::load(std::slice::from_ref(&files)).unwrap();
    let metrics = Metrics::default();

    write(&dir, "a", &["after.example"]);
    certificates.reload(&metrics);
    check(&certificates, None, "after.example");

    std::fs::write(&files.chain_file, "-----BEGIN CERTIFICATE-----\nnonsense").unwrap();
    certificates.reload(&metrics);
    check(&certificates, None, "after.example");

    let other = write(&dir, "other", &["other.example"]);
    std::fs::copy(&other.chain_file, &files.chain_file).unwrap();
    certificates.reload(&metrics);
    check(&certificates, None, "after.example");

    std::fs::copy(&other.key_file, &files.key_file).unwrap();
    certificates.reload(&metrics);
    check(&certificates, None, "other.example");
}

#[test]
fn bad_files_at_start_say_which() {
    let dir = TempDir::new().unwrap();
    let good = write(&dir, "a", &["a.example"]);
    let other = write(&dir, "b", &["b.example"]);
    let missing = dir.path().join("missing.pem");
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();

    let refused = |chain: &PathBuf, key: &PathBuf| {
        let files = CertificateFiles { chain_file: chain.clone(), key_file: key.clone() };
        Certificates::load(&[files]).unwrap_err().to_string()
    };
    assert!(refused(&missing, &good.key_file).contains("missing.pem"));
    assert!(refused(&good.chain_file, &missing).contains("missing.pem"));
    assert!(refused(&empty, &good.key_file).contains("empty.pem"));
    assert!(refused(&good.chain_file, &other.key_file).contains("does not fit"));
}

#[test]
fn without_files_there_is_one_for_development() {
    let certificates = Arc::new(Certificates::load(&[]).unwrap());
    certificates.reload(&Metrics::default());
    certificates.server_config().unwrap();
    let table = certificates.table.load();
    assert_eq!(table.certificates[0].names, ["localhost"]);
}

/// Writes a self-signed certificate for `names` and its key.
fn write(dir: &TempDir, stem: &str, names: &[&str]) -> CertificateFiles {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let Made { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let files = CertificateFiles {
        chain_file: dir.path().join(format!("{stem}.crt")),
        key_file: dir.path().join(format!("{stem}.key")),
    };
    std::fs::write(&files.chain_file, cert.pem()).unwrap();
    std::fs::write(&files.key_file, signing_key.serialize_pem()).unwrap();
    files
}

#[track_caller]
fn check(certificates: &Certificates, asked: Option<&str>, expected: &str) {
    let table = certificates.table.load();
    let found = table.find(asked);
    let names = table.certificates.iter().find(|c| Arc::ptr_eq(&c.key, &found)).unwrap();
    assert_eq!(names.names[0], expected, "{asked:?}");
}
