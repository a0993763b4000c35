//! Raw sockets against a front whose core is in memory.

mod bench;
mod exchanges;
mod limits;
mod requests;
mod tls;
mod websockets;

use bench::{Bench, end, field, has_line, whole};
