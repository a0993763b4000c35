//! The figures for people: a row a condition, the product beside its peer.

use std::fmt::Write as _;

use serde_json::Value;

/// Figures as columns, by their names in a result.
const COLUMNS: [(&str, &str, usize); 9] = [
    ("p50_ms", "p50 ms", 8),
    ("p99_ms", "p99 ms", 8),
    ("p999_ms", "p99.9 ms", 9),
    ("max_ms", "max ms", 8),
    ("flow_p50_s", "flow s", 7),
    ("flow_max_s", "max s", 7),
    ("megabytes_per_s", "MB/s", 7),
    ("missing", "missing", 7),
    ("packets_per_s", "pkt/s", 7),
];

/// The whole table.
#[must_use]
pub fn table(rows: &[Value]) -> String {
    let mut told = format!("{:<46}{:<22}", "condition", "carried by");
    for (_, head, width) in COLUMNS {
        let _ = write!(told, "{head:>width$} ");
    }
    told.push_str(" must\n");
    for row in rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let _ = write!(told, "{:<46}{:<22}", text("condition"), text("stack"));
        for (key, _, width) in COLUMNS {
            let shown = row["figures"][key].as_f64().map_or(String::new(), shorten);
            let _ = write!(told, "{shown:>width$} ");
        }
        let _ = writeln!(told, " {}", text("verdict"));
    }
    told
}

fn shorten(figure: f64) -> String {
    if figure.fract() == 0.0 || figure >= 1000.0 {
        return format!("{figure:.0}");
    }
    format!("{figure:.2}")
}
