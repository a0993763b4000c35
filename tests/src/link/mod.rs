//! The far link measured: the product beside what people put together today, on one emulated link.
//!
//! | module | idea it hides |
//! |---|---|
//! | [`condition`] | what the link does to its packets, and what must be shown under it |
//! | [`place`] | three hosts, and the emulated link between two of them |
//! | [`stack`] | what carries the clients: the product, or nginx with wireguard-go |
//! | [`echoes`] | many clients that echo at fixed times, and what they saw |
//! | [`bulk`] | one large download, and how fast it came |
//! | [`table`] | the figures for people |

pub mod bulk;
pub mod condition;
pub mod echoes;
pub mod place;
pub mod stack;
pub mod table;
