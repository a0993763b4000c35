//! The emulator as a program: a JSON line in, a JSON line out.
//!
//! | line | what |
//! |---|---|
//! | `{"set": {"both": {"delay_ms": 100, "loss": 0.01}}}` | changes conditions; also `up`, `down` |
//! | `{"rebind": true}` | the translator before the left side forgets its mappings |
//! | `{"sever": true}` | the UDP flows of all ports that the left side has used so far are dead |
//! | `{"stats": true}` | what it did so far |

use std::collections::BTreeMap;
use std::io::BufRead;

use serde::Deserialize;
use serde_json::{Value, json};

use super::conditions::{Change, Way};
use super::driver::Wan;
use crate::report::result;

/// What a line may ask for; more than one at once is done in this order.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Order {
    set: BTreeMap<Way, Change>,
    rebind: bool,
    sever: bool,
    stats: bool,
}

/// Does what `orders` say until they end.
///
/// # Errors
///
/// If they can't be read.
pub fn obey(wan: &Wan, orders: impl BufRead) -> anyhow::Result<()> {
    result(&json!({ "ready": true }).to_string());
    for line in orders.lines() {
        let answer = order(wan, &line?).unwrap_or_else(|error| json!({ "error": error }));
        result(&answer.to_string());
    }
    Ok(())
}

fn order(wan: &Wan, line: &str) -> Result<Value, String> {
    let order: Order = serde_json::from_str(line).map_err(|error| error.to_string())?;
    for (way, change) in &order.set {
        wan.set(*way, change).map_err(|error| error.to_string())?;
    }
    if order.rebind {
        wan.rebind();
    }
    if order.sever {
        wan.sever();
    }
    if order.stats {
        return serde_json::to_value(wan.stats()).map_err(|error| error.to_string());
    }
    Ok(json!({ "ok": true }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read() {
        let read = |line: &str| serde_json::from_str::<Order>(line);
        let order = read(r#"{"set": {"up": {"cut": true}, "both": {"loss": 0.5}}}"#).unwrap();
        assert_eq!(order.set[&Way::Up].cut, Some(true));
        assert_eq!(order.set[&Way::Both].loss, Some(0.5));
        assert!(read(r#"{"rebind": true, "stats": true}"#).unwrap().rebind);
        assert!(read(r#"{"set": {"left": {}}}"#).is_err());
        assert!(read(r#"{"stat": true}"#).is_err());
    }
}
