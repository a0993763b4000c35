//! What an operator's tools ask: is it alive, is it ready, how is it doing.
//!
//! Plain HTTP without authentication, so it is off, or on loopback, unless configured otherwise.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use tracing::info;

use crate::listen::{ListenError, bind_tcp};
use crate::shutdown::Shutdown;

/// What prometheus-client writes.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The `[admin]` table of a configuration file.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct AdminTable {
    /// Where to serve `/healthz`, `/readyz` and `/metrics`; absent: nowhere.
    pub listen: Option<SocketAddr>,
}

/// What is still missing before the program can take its load. Clones share it.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Each part with what it waits for; an empty text: ready.
    parts: Arc<Mutex<BTreeMap<&'static str, String>>>,
    shutdown: Shutdown,
}

impl Readiness {
    /// Nothing is missing until [`Readiness::waiting`] says so, or the program drains.
    pub fn new(shutdown: &Shutdown) -> Self {
        Self { parts: Arc::default(), shutdown: shutdown.clone() }
    }

    /// `part` can't serve: it waits for `reason`.
    pub fn waiting(&self, part: &'static str, reason: impl Into<String>) {
        self.parts.lock().insert(part, reason.into());
    }

    /// `part` serves.
    pub fn ready(&self, part: &'static str) {
        self.parts.lock().remove(part);
    }

    /// Whether every part serves and the program isn't draining.
    pub fn is_ready(&self) -> bool {
        !self.shutdown.is_draining() && self.parts.lock().is_empty()
    }

    /// Why not ready, a line a part; empty when ready.
    pub fn reasons(&self) -> String {
        let mut text = String::new();
        if self.shutdown.is_draining() {
            text.push_str("draining\n");
        }
        for (part, reason) in self.parts.lock().iter() {
            writeln!(text, "{part}: {reason}").expect("a string takes every write");
        }
        text
    }
}

/// Serves the admin endpoint until the program ends; through the drain too. Returns where.
///
/// # Errors
///
/// When the port can't be bound; the error names the key `admin.listen`.
pub async fn serve(
    table: AdminTable,
    readiness: Readiness,
    registry: Arc<Registry>,
    shutdown: &Shutdown,
) -> Result<Option<SocketAddr>, ListenError> {
    const KEY: &str = "admin.listen";
    let Some(address) = table.listen else { return Ok(None) };
    let listener = bind_tcp(KEY, address).await?;
    let bound = listener.local_addr().map_err(|source| ListenError::new(KEY, address, source))?;
    info!(listen = %bound, "admin endpoint is up");
    let router = router(readiness, registry);
    shutdown
        .spawn_essential("the admin endpoint", async move { axum::serve(listener, router).await });
    Ok(Some(bound))
}

/// Registers `antipode_build_info{program, version} 1`.
pub fn register_build_info(registry: &mut Registry, program: &'static str, version: &'static str) {
    #[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
    struct Build {
        program: &'static str,
        version: &'static str,
    }
    let build = Info::new(Build { program, version });
    registry.register("antipode_build", "Which program this is", build);
}

/// The routes alone, for a program that serves them beside its own.
pub fn router(readiness: Readiness, registry: Arc<Registry>) -> Router {
    let ready = Router::new().route("/readyz", get(readyz)).with_state(readiness);
    let metrics = Router::new().route("/metrics", get(metrics)).with_state(registry);
    Router::new().route("/healthz", get(async || "ok\n")).merge(ready).merge(metrics)
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    if readiness.is_ready() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, readiness.reasons()).into_response()
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)
        .expect("a string takes every write");
    ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response()
}

#[cfg(test)]
mod tests;
