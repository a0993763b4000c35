//! The HTTP face: JSON for browsers and SDKs.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/steer?lat&lon&tz&country&max` | candidates, best first; 503 if none |
//! | `GET /v1/nodes` | all nodes, for a map |
//! | `GET /v1/routes` | through which nodes the datagrams of others go, or could go |
//!
//! Browsers ask from other origins, so both may be read by any (CORS).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use antipode_runtime::shutdown::Shutdown;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tokio_stream::StreamExt;
use tracing::debug;

use super::{Answer, Guide};
use crate::config::Trust;
use crate::locate::{Clues, Country};
use crate::metrics::Metrics;
use crate::position::Position;
use crate::socket::{Incoming, Socket};
use crate::steer::Node;

/// A client that takes longer for its request's head is closed; idle ones too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest request head, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

#[derive(Clone, Debug)]
struct Face {
    guide: Guide,
    trust: Arc<Trust>,
}

/// Each as text, so that a bad one is answered in our own words.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SteerQuery {
    lat: Option<String>,
    lon: Option<String>,
    tz: Option<String>,
    country: Option<String>,
    max: Option<String>,
}

#[derive(Debug, Serialize)]
struct SteerBody<'a> {
    candidates: Vec<CandidateBody<'a>>,
    reason: &'static str,
    located_by: &'static str,
    retry_after_ms: u32,
}

#[derive(Debug, Serialize)]
struct CandidateBody<'a> {
    name: &'a str,
    region: &'a str,
    urls: &'a [String],
    distance_km: Option<f64>,
}

#[derive(Debug, Serialize)]
struct NodeBody<'a> {
    name: &'a str,
    region: &'a str,
    location: Option<LocationBody>,
    health: &'static str,
    urls: &'a [String],
}

#[derive(Debug, Serialize)]
struct LocationBody {
    latitude: f64,
    longitude: f64,
}

#[derive(Debug, Serialize)]
struct ErrorBody {
    error: String,
}

impl<'a> NodeBody<'a> {
    fn of(node: &'a Node) -> Self {
        let Node { place, health, .. } = node;
        let location = place
            .position
            .map(|at| LocationBody { latitude: at.latitude(), longitude: at.longitude() });
        Self {
            name: &place.name,
            region: &place.region,
            location,
            health: health.label(),
            urls: &place.urls,
        }
    }
}

/// Serves HTTP/1.1 on what comes in, until the drain begins.
pub fn serve(
    guide: Guide,
    trust: Arc<Trust>,
    mut incoming: Incoming,
    metrics: Metrics,
    shutdown: &Shutdown,
) {
    let router = router(guide, trust);
    let inner = shutdown.clone();
    shutdown.spawn(async move {
        while let Some(accepted) = incoming.next().await {
            if let Ok(socket) = accepted {
                let (router, metrics) = (router.clone(), metrics.clone());
                inner.spawn(converse(socket, router, metrics, inner.clone()));
            }
        }
    });
}

async fn converse(socket: Socket, router: Router, metrics: Metrics, shutdown: Shutdown) {
    let router = router.layer(Extension(ConnectInfo(socket.address())));
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
    tokio::pin!(conversation);
    let ended = tokio::select! {
        ended = &mut conversation => ended,
        () = shutdown.draining() => {
            conversation.as_mut().graceful_shutdown();
            conversation.await
        }
    };
    if let Err(error) = ended {
        if error.is_timeout() {
            metrics.socket_refused("head_timeout");
        } else if error.is_parse_too_large() {
            metrics.socket_refused("head_too_large");
        }
        debug!(%error, "HTTP client lost");
    }
}

fn router(guide: Guide, trust: Arc<Trust>) -> Router {
    Router::new()
        .route("/v1/steer", get(steer).options(preflight))
        .route("/v1/nodes", get(nodes).options(preflight))
        .route("/v1/routes", get(routes).options(preflight))
        .fallback(not_found)
        .with_state(Face { guide, trust })
}

async fn steer(
    State(face): State<Face>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    query: Result<Query<SteerQuery>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(query)) = query else {
        return bad_request("the query can't be read: lat, lon, tz, country and max, each once");
    };
    match question(&face.trust, peer, &headers, &query) {
        Ok((clues, max)) => answer(&face.guide.answer(&clues, max)),
        Err(error) => bad_request(error),
    }
}

async fn nodes(State(face): State<Face>) -> Response {
    let snapshot = face.guide.desk().snapshot();
    let nodes: Vec<NodeBody<'_>> = snapshot.nodes.iter().map(NodeBody::of).collect();
    open(Json(serde_json::json!({ "nodes": nodes })).into_response())
}

/// No more than a few seconds old, like the mesh.
async fn routes(State(face): State<Face>) -> Response {
    let mesh = face.guide.desk().mesh();
    open(Json(serde_json::json!({ "routes": mesh.routes() })).into_response())
}

async fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "*"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    open((StatusCode::NO_CONTENT, headers).into_response())
}

async fn not_found() -> Response {
    let error = "no such page: ask GET /v1/steer, /v1/nodes or /v1/routes".to_owned();
    open((StatusCode::NOT_FOUND, Json(ErrorBody { error })).into_response())
}

/// The clues in a request, and how many candidates it wants.
fn question(
    trust: &Trust,
    peer: SocketAddr,
    headers: &HeaderMap,
    query: &SteerQuery,
) -> Result<(Clues, usize), &'static str> {
    let degrees = |text: &Option<String>| -> Result<Option<f64>, &'static str> {
        let text = text.as_deref().filter(|text| !text.is_empty());
        text.map(|text| text.parse().map_err(|_| "lat and lon are numbers in degrees")).transpose()
    };
    let coordinates = match (degrees(&query.lat)?, degrees(&query.lon)?) {
        (Some(lat), Some(lon)) => Some(
            Position::new(lat, lon)
                .ok_or("lat is from -90 to 90, lon from -180 to 180, in degrees")?,
        ),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err("lat and lon go together"),
    };
    let max = match query.max.as_deref() {
        None | Some("") => 0,
        Some(max) => max.parse().map_err(|_| "max is the most candidates wanted, a number")?,
    };
    // What the client says of itself counts like its coordinates would; a proxy knows better.
    let said = || query.country.as_deref().and_then(Country::parse);
    let clues = Clues {
        coordinates,
        address: Some(trust.client_address(peer.ip(), headers)),
        country: trust.client_country(peer.ip(), headers).or_else(said),
        time_zone: query.tz.clone(),
    };
    Ok((clues, max))
}

fn answer(answer: &Answer) -> Response {
    let decision = &answer.decision;
    let candidates = decision.candidates.iter().map(|candidate| CandidateBody {
        name: &candidate.place.name,
        region: &candidate.place.region,
        urls: &candidate.place.urls,
        distance_km: candidate.distance_km.map(|km| (km * 10.0).round() / 10.0),
    });
    let body = Json(SteerBody {
        candidates: candidates.collect(),
        reason: decision.reason.label(),
        located_by: answer.located_by.label(),
        retry_after_ms: answer.retry_after_ms,
    });
    if !decision.candidates.is_empty() {
        return open(body.into_response());
    }
    let seconds = answer.retry_after_ms.div_ceil(1000).max(1);
    let retry_after = [(header::RETRY_AFTER, HeaderValue::from(seconds))];
    open((StatusCode::SERVICE_UNAVAILABLE, retry_after, body).into_response())
}

fn bad_request(error: impl Into<String>) -> Response {
    open((StatusCode::BAD_REQUEST, Json(ErrorBody { error: error.into() })).into_response())
}

/// Readable from any origin, errors too, and never kept: the next answer may be another.
fn open(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
