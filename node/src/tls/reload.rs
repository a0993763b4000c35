//! Takes up changed certificate files. A bad new file keeps the old certificate in use.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use antipode_runtime::telemetry::chain;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::certificate::Certificate;
use super::{Certificates, Table};
use crate::metrics::{Metrics, ReloadOutcome};

/// How often the files are looked at: ACME clients renew weeks ahead, a person who tests waits
/// seconds.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);

/// What tells a file from its successor.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Stamp {
    modified: Option<SystemTime>,
    len_bytes: Option<u64>,
}

/// Watches the files for ever: every few seconds, and at once on SIGHUP.
pub async fn watch(certificates: Arc<Certificates>, metrics: Metrics) {
    let mut seen = stamps(&certificates);
    let mut hangup = signal(SignalKind::hangup()).ok();
    loop {
        let told = tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => false,
            Some(()) = recv(&mut hangup) => true,
        };
        let now = stamps(&certificates);
        if told || now != seen {
            certificates.reload(&metrics);
        }
        seen = now;
    }
}

impl Certificates {
    /// Loads every file again. Those that can't be used leave the certificate that was in use.
    pub(super) fn reload(&self, metrics: &Metrics) {
        let old = self.table.load();
        let mut certificates = Vec::with_capacity(self.sources.len());
        for (files, old) in self.sources.iter().zip(&old.certificates) {
            let chain_file = files.chain_file.display();
            match Certificate::load(files) {
                Ok(new) => {
                    info!(%chain_file, names = ?new.names, "certificate reloaded");
                    metrics.certificate_reloaded(ReloadOutcome::Loaded);
                    certificates.push(new);
                }
                Err(error) => {
                    let error = chain(&error);
                    warn!(%chain_file, error, "certificate not reloaded, the old one stays in use");
                    metrics.certificate_reloaded(ReloadOutcome::Kept);
                    certificates.push(old.clone());
                }
            }
        }
        if !certificates.is_empty() {
            self.table.store(Arc::new(Table::new(certificates)));
        }
    }
}

fn stamps(certificates: &Certificates) -> Vec<[Stamp; 2]> {
    let sources = certificates.sources.iter();
    sources.map(|files| [stamp(&files.chain_file), stamp(&files.key_file)]).collect()
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok();
    Stamp {
        modified: metadata.as_ref().and_then(|metadata| metadata.modified().ok()),
        len_bytes: metadata.map(|metadata| metadata.len()),
    }
}

async fn recv(hangup: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
    match hangup {
        Some(hangup) => hangup.recv().await,
        None => std::future::pending().await,
    }
}
