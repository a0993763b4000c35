//! What programs say of themselves, in Prometheus's text.

/// The value of a series, written as it is there: its name, and its labels if it has any. 0 where
/// a label's value has not come up yet.
///
/// # Panics
///
/// If a series without labels is not there at all: it would be a name that nobody exports.
#[must_use]
pub fn value(metrics: &str, series: &str) -> u64 {
    let rest = |line: &str| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned);
    let found = metrics.lines().find_map(rest);
    assert!(found.is_some() || series.ends_with('}'), "no {series} in\n{metrics}");
    found.and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn a_series_is_found_by_its_whole_name() {
        let metrics = "# TYPE a counter\na_total 3\na_total_more 4\nb_total{c=\"d\"} 5\n";
        assert_eq!(value(metrics, "a_total"), 3);
        assert_eq!(value(metrics, "b_total{c=\"d\"}"), 5);
        assert_eq!(value(metrics, "b_total{c=\"e\"}"), 0);
    }
}
