//! The built-in tables: IANA time zones and countries, each with a place.
//! `data/make.py` makes them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::position::Position;

type Table = BTreeMap<&'static str, Position>;

static ZONES: LazyLock<Table> = LazyLock::new(|| parse(include_str!("../../data/zones.tsv")));
static COUNTRIES: LazyLock<Table> =
    LazyLock::new(|| parse(include_str!("../../data/countries.tsv")));

/// An ISO 3166-1 alpha-2 code, in upper case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Country([u8; 2]);

impl Country {
    /// Reads a code of two letters, in either case.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        let letters: [u8; 2] = code.as_bytes().try_into().ok()?;
        let letters = letters.map(|letter| letter.to_ascii_uppercase());
        letters.iter().all(u8::is_ascii_uppercase).then_some(Self(letters))
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("two ASCII letters are UTF-8")
    }
}

/// The place of a country.
pub(super) fn country(country: Country) -> Option<Position> {
    COUNTRIES.get(country.as_str()).copied()
}

/// The place of a time zone, by its present or a former name.
pub(super) fn time_zone(name: &str) -> Option<Position> {
    ZONES.get(name).copied()
}

/// How many time zones have a place.
#[must_use]
pub fn zone_count() -> usize {
    ZONES.len()
}

/// How many countries have a place.
#[must_use]
pub fn country_count() -> usize {
    COUNTRIES.len()
}

fn parse(text: &'static str) -> Table {
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| parse_row(row).expect("a row of data/*.tsv is name, latitude, longitude"))
        .collect()
}

fn parse_row(row: &'static str) -> Option<(&'static str, Position)> {
    let mut fields = row.split('\t');
    let name = fields.next()?;
    let latitude = fields.next()?.parse().ok()?;
    let longitude = fields.next()?.parse().ok()?;
    Some((name, Position::new(latitude, longitude)?))
}
