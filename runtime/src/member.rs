//! What node and core share towards the gateway: joining it, attending it, knowing their peers.
//!
//! | module | idea |
//! |---|---|
//! | [`names`] | the fixed names in certificates, and which names members may have |
//! | [`token`] | the join token's text, and the pin of the gateway's authority |
//! | [`refusal`] | why the gateway says no, in a form that both sides read the same |
//!
//! The agreement with the gateway, beside the `.proto` file:
//!
//! - Its server certificate is for [`names::GATEWAY_NAME`] whatever its address is, and it sends its
//!   authority's certificate along, so that a joining member can hold that against the token's pin.
//! - A member's certificate has the common name and the DNS name [`names::member_name`], for client
//!   and server use. It is backdated enough that a clock a little behind doesn't refuse it.
//! - `Enrol` is called without a client certificate, `Renew` and `Attend` with one.
//! - A refusal is a [`refusal::Refusal`] in the status.
//! - After `Introduction` comes `Welcome`, then a `Roster`.

pub mod names;
pub mod refusal;
pub mod token;
