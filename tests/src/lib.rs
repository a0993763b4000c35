//! What needs more than one crate: end to end, conformance, namespaces, benchmarks, tidiness.
//!
//! | module | what |
//! |---|---|
//! | [`repository`] | the repository as text, for the tests that read it |
//! | [`limits`] | docs/limits.md, and the constants that it speaks of |
//! | [`require`] | a test that lacks something says so |
//! | [`process`], [`programs`], [`foreign`] | programs to start: any, ours, others' |
//! | [`world`], [`settings`] | gateway, core and nodes as programs, and their configuration files |
//! | [`namespaces`] | hosts of their own for them |
//! | [`certificate`] | an authority for the test's TLS |
//! | [`backend`], [`sockets`], [`body`] | an ordinary backend, and bodies too large to hold |
//! | [`counted`] | a backend that counts requests, and answers late or never |
//! | [`choir`] | a backend for floods and for fan-out |
//! | [`client`] | WebSocket, HTTP or raw bytes to a server |
//! | [`raw`], [`raw_resume`] | frames by hand |
//! | [`metrics`] | what programs say of themselves |
//! | [`stories`] | what clients do, told once for direct and relayed |
//! | [`faults`] | what breaks, who notices, and the judge of histories |
//! | [`link`] | the far link measured beside other people's |
//! | [`far`] | a world whose node and core are far apart, over emulated links |
//! | [`autobahn`] | Autobahn's suite, and two of its runs compared |
//! | [`wan`] | a wide-area link between namespaces, whose faults are set at run time |
//! | [`report`] | what measuring programs print |

pub mod autobahn;
pub mod backend;
pub mod body;
pub mod certificate;
pub mod choir;
pub mod client;
pub mod counted;
pub mod far;
pub mod faults;
pub mod foreign;
pub mod limits;
pub mod link;
pub mod metrics;
pub mod namespaces;
pub mod process;
pub mod programs;
pub mod raw;
pub mod raw_resume;
pub mod report;
pub mod repository;
pub mod require;
pub mod settings;
pub mod sockets;
pub mod stories;
pub mod wan;
pub mod world;
