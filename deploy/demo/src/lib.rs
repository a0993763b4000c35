//! All of Antipode on one machine, with the world's distances simulated.
//!
//! | module | idea |
//! |---|---|
//! | [`region`], [`distance`] | where things are, and how long light needs between them |
//! | [`wan`] | the paths between them: relays that hold every byte for that long |
//! | [`system`], [`run`] | everything together, and its life |
//! | [`chat`] | the small backend: an ordinary WebSocket server |
//! | [`page`], [`world`], [`live`] | the page, and what it is told |
//! | [`serve`], [`port`], [`certificate`] | how it is served |
//! | [`args`], [`backend`], [`say`], [`greeting`] | command line, the user's own server, words |
//! | [`probe`], [`check`], [`table`] | a client that measures, and what it found |

pub mod args;
pub mod backend;
pub mod certificate;
pub mod chat;
pub mod check;
pub mod distance;
pub mod greeting;
pub mod live;
pub mod page;
pub mod port;
pub mod probe;
pub mod region;
pub mod run;
pub mod say;
pub mod serve;
pub mod system;
pub mod table;
pub mod wan;
pub mod world;
