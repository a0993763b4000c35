//! A wide-area link on one machine: two network namespaces joined by TAP devices, with a machine
//! between them that decides each frame's fate. Needs root.
//!
//! Kernels without netem are common, and netem knows neither NAT nor ICMP; so the link is ours.
//!
//! | module | what |
//! |---|---|
//! | [`conditions`] | what a direction of the link does to frames, and changes of it |
//! | [`frame`] | what the link must know of a frame, and checksums |
//! | [`loss`] | which frames a lossy link loses: each by itself, or all for a while |
//! | [`link`] | one direction as a pure machine: a frame and a time in, a fate out |
//! | [`flight`] | the frames under way, by the time that they arrive |
//! | [`nat`] | a translator on the left side that may forget its mappings |
//! | [`icmp`] | "packet too big" |
//! | [`figures`] | what a link tells of itself, lateness above all |
//! | [`tap`] | a TAP device in a namespace |
//! | [`driver`] | the threads that carry frames between devices and machines |
//! | [`prompt`] | threads that run when their time has come |
//! | [`pair`] | two namespaces joined by a link, for tests of the link itself |
//! | [`command`] | the emulator as a program: a JSON line in, a JSON line out |

pub mod command;
pub mod conditions;
pub mod driver;
pub mod figures;
pub mod flight;
pub mod frame;
pub mod icmp;
pub mod link;
pub mod loss;
pub mod nat;
pub mod pair;
pub mod prompt;
pub mod tap;

pub use conditions::{Burst, Change, Conditions, Way};
pub use driver::{Plan, Wan};
pub use tap::End;
