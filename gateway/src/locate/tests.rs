//! Clues in order of trust, and mmdb files of every shape, written here byte by byte.

use std::path::Path;

use super::*;

mod writer;
use writer::{Value, mmdb};

#[test]
fn the_best_clue_that_leads_anywhere_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("city.mmdb");
    std::fs::write(&path, mmdb("City", &[("192.0.2.0/24", nested(48.85, 2.35))])).unwrap();
    let geography = Geography::new(Some(AddressBook::open(&path).unwrap()));
    let all = Clues {
        coordinates: Position::new(1.0, 2.0),
        address: Some("192.0.2.77".parse().unwrap()),
        country: Country::parse("sg"),
        time_zone: Some("Asia/Calcutta".into()),
    };
    check(&geography, &all, LocatedBy::Coordinates, (1.0, 2.0));
    let clues = Clues { coordinates: None, ..all.clone() };
    check(&geography, &clues, LocatedBy::Address, (48.85, 2.35));
    let elsewhere = Some("198.51.100.1".parse().unwrap());
    let clues = Clues { coordinates: None, address: elsewhere, ..all };
    check(&geography, &clues, LocatedBy::Country, (1.3, 103.8));
    let clues = Clues { country: Country::parse("QQ"), ..clues };
    check(&geography, &clues, LocatedBy::TimeZone, (22.5, 88.4));
    let clues = Clues { time_zone: Some("Mars/Olympus".into()), ..clues };
    assert_eq!(geography.locate(&clues), (None, LocatedBy::None));
    assert_eq!(Geography::default().locate(&Clues::default()), (None, LocatedBy::None));
}

#[test]
fn zones_have_their_place_by_present_and_former_names() {
    for (zone, latitude, longitude) in [
        ("Asia/Kolkata", 22.5, 88.4),
        ("Asia/Calcutta", 22.5, 88.4),
        ("Europe/Amsterdam", 52.4, 4.9),
        ("America/Buenos_Aires", -34.6, -58.5),
        ("Asia/Saigon", 10.8, 106.7),
        ("Australia/Sydney", -33.9, 151.2),
        ("America/Sao_Paulo", -23.5, -46.6),
        ("US/Pacific", 34.1, -118.2),
    ] {
        let clues = Clues { time_zone: Some(zone.into()), ..Clues::default() };
        check(&Geography::default(), &clues, LocatedBy::TimeZone, (latitude, longitude));
    }
    assert!(zone_count() > 500, "{}", zone_count());
    assert!(country_count() > 240, "{}", country_count());
}

#[test]
fn every_shape_of_record_is_read() {
    let nested_code = |key: &str| {
        Value::map([(key, Value::map([("iso_code", Value::text("BR"))])), ("x", Value::text("y"))])
    };
    let book = book(&[
        ("192.0.2.0/26", nested(1.5, 2.5)),
        (
            "192.0.2.64/26",
            Value::map([("latitude", Value::Float(1.5)), ("longitude", Value::Float(2.5))]),
        ),
        (
            "192.0.2.128/26",
            Value::map([("latitude", Value::text("1.5")), ("longitude", Value::text("2.5"))]),
        ),
        ("198.51.100.0/26", nested_code("country")),
        ("198.51.100.64/26", nested_code("registered_country")),
        ("198.51.100.128/26", Value::map([("country_code", Value::text("BR"))])),
        (
            "198.51.100.192/26",
            Value::map([("country", Value::text("Brazil")), ("country_code", Value::text("BR"))]),
        ),
        (
            "203.0.113.0/26",
            Value::map([("latitude", Value::Double(91.0)), ("longitude", Value::Double(0.0))]),
        ),
        ("203.0.113.64/26", Value::map([("country_code", Value::text("Brazil"))])),
        ("203.0.113.128/26", Value::text("what")),
    ]);
    for (address, expected) in [
        ("192.0.2.1", Some((1.5, 2.5))),
        ("192.0.2.65", Some((1.5, 2.5))),
        ("192.0.2.129", Some((1.5, 2.5))),
        ("::ffff:192.0.2.1", Some((1.5, 2.5))),
        ("198.51.100.1", Some((-8.6, -50.7))),
        ("198.51.100.65", Some((-8.6, -50.7))),
        ("198.51.100.129", Some((-8.6, -50.7))),
        ("198.51.100.193", Some((-8.6, -50.7))),
        ("203.0.113.1", None),
        ("203.0.113.65", None),
        ("203.0.113.129", None),
        ("10.0.0.1", None),
        ("2001:db8::1", None),
    ] {
        let address: IpAddr = address.parse().unwrap();
        let found = book.position(address.to_canonical());
        match (found, expected) {
            (Some(at), Some(place)) => assert_near(at, place),
            (None, None) => {}
            (found, expected) => panic!("{address}: {found:?}, not {expected:?}"),
        }
    }
}

#[test]
fn a_newer_file_is_taken_up_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("city.mmdb");
    std::fs::write(&path, mmdb("City", &[("192.0.2.0/24", nested(1.0, 1.0))])).unwrap();
    let book = AddressBook::open(&path).unwrap();
    assert!(matches!(book.reload_if_changed().unwrap(), Reloaded::Unchanged));

    std::fs::write(&path, b"half a file").unwrap();
    let error = book.reload_if_changed().unwrap_err();
    assert!(matches!(error, OpenError::Format { .. }), "{error:?}");
    let address = "192.0.2.1".parse().unwrap();
    assert_near(book.position(address).unwrap(), (1.0, 1.0));

    std::fs::write(&path, mmdb("City-2", &[("192.0.2.0/24", nested(2.0, 2.0))])).unwrap();
    let Reloaded::Newer(newer) = book.reload_if_changed().unwrap() else { panic!("unchanged") };
    assert_eq!(newer.kind(), "City-2");
    assert_near(newer.position(address).unwrap(), (2.0, 2.0));

    std::fs::remove_file(&path).unwrap();
    assert!(matches!(newer.reload_if_changed().unwrap_err(), OpenError::Read { .. }));
}

#[test]
fn a_damaged_file_is_an_error_or_no_place_but_never_a_panic() {
    let good = mmdb("City", &[("192.0.2.0/24", nested(1.0, 1.0))]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.mmdb");
    for at in 0..good.len() {
        for bit in [0x01, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            std::fs::write(&path, &bad).unwrap();
            if let Ok(book) = AddressBook::open(&path) {
                let _ = book.position("192.0.2.1".parse().unwrap());
                let _ = book.position("2001:db8::1".parse().unwrap());
            }
        }
    }
    for len in 0..good.len() {
        std::fs::write(&path, &good[..len]).unwrap();
        if let Ok(book) = AddressBook::open(&path) {
            let _ = book.position("192.0.2.1".parse().unwrap());
        }
    }
    assert!(AddressBook::open(Path::new("/nonexistent.mmdb")).is_err());
}

#[test]
fn countries_are_two_letters() {
    assert_eq!(Country::parse("sg"), Country::parse("SG"));
    for bad in ["", "s", "sgp", "1a", "é"] {
        assert_eq!(Country::parse(bad), None, "{bad}");
    }
}

#[track_caller]
fn check(geography: &Geography, clues: &Clues, by: LocatedBy, place: (f64, f64)) {
    let (position, located_by) = geography.locate(clues);
    assert_eq!(located_by, by);
    assert_near(position.unwrap(), place);
}

#[track_caller]
fn assert_near(position: Position, (latitude, longitude): (f64, f64)) {
    let off = position.distance_km(Position::new(latitude, longitude).unwrap());
    assert!(off < 15.0, "{position:?} is {off} km off");
}

fn book(rows: &[(&str, Value)]) -> AddressBook {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.mmdb");
    std::fs::write(&path, mmdb("Test", rows)).unwrap();
    AddressBook::open(&path).unwrap()
}

fn nested(latitude: f64, longitude: f64) -> Value {
    let location = [("latitude", Value::Double(latitude)), ("longitude", Value::Double(longitude))];
    Value::map([("location", Value::map(location)), ("city", Value::text("somewhere"))])
}
