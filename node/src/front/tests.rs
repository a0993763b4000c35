//! Raw sockets against a front whose core is in memory.

mod bench;
mod client_js;
mod drain;
mod exchanges;
mod limits;
mod pacing;
mod requests;
mod resume;
mod tls;
mod websockets;

use bench::{Bench, end, field, has_line, whole};
