//! All of Antipode on one machine, with the world's distances simulated.
//!
//! | module | idea |
//! |---|---|
//! | [`region`], [`distance`] | where things are, and how long light needs between them |
//! | [`wan`] | the paths between them: relays that hold every byte for that long |
//! | [`system`], [`run`] | everything together, and its life |
//! | [`chat`] | the small backend: an ordinary WebSocket server |
//! | [`page`], [`world`], [`live`], [`serve`], [`port`] | the page, what it is told, and how it is served |
//! | [`certificate`], [`backend`], [`args`], [`say`], [`greeting`] | made-up certificates, the user's own server, command line, words |
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
