//! Large downloads, and how fast they came.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use tokio::time::{Instant, timeout_at};

use crate::client::Client;

/// More than any link brings in the time.
const BODY_BYTES: u64 = 20_000_000_000;

/// Downloads for `length`; returns megabytes a second, the first `warm` left out.
///
/// # Errors
///
/// If the download does not begin, or ends.
pub async fn download(client: &Client, warm: Duration, length: Duration) -> anyhow::Result<f64> {
    let request =
        Request::get(format!("/download?bytes={BODY_BYTES}")).body(Empty::<Bytes>::new())?;
    let exchange = client.request(request).await?;
    ensure!(exchange.response.status().is_success(), "{:?}", exchange.response.status());
    let (start, mut exchange) = (Instant::now(), exchange);
    let (from, until) = (start + warm, start + warm + length);
    let mut counted = 0_u64;
    while let Ok(frame) = timeout_at(until, exchange.response.frame()).await {
        let frame = frame.context("the download ended")??;
        if let Some(part) = frame.data_ref()
            && Instant::now() >= from
        {
            counted += u64::try_from(part.len())?;
        }
    }
    let megabytes = counted / 1_000;
    Ok(f64::from(u32::try_from(megabytes)?) / 1_000.0 / length.as_secs_f64())
}

/// Downloads a body of `bytes`, whole; returns the seconds that it took.
///
/// # Errors
///
/// If it does not come, or is not as long as it should be.
pub async fn body(client: &Client, bytes: u64) -> anyhow::Result<f64> {
    let request = Request::get(format!("/download?bytes={bytes}")).body(Empty::<Bytes>::new())?;
    let start = Instant::now();
    let mut exchange = client.request(request).await?;
    ensure!(exchange.response.status().is_success(), "{:?}", exchange.response.status());
    let mut came = 0_u64;
    while let Some(frame) = exchange.response.frame().await {
        came += u64::try_from(frame?.data_ref().map_or(0, Bytes::len))?;
    }
    ensure!(came == bytes, "{came} bytes of {bytes}");
    Ok(start.elapsed().as_secs_f64())
}
