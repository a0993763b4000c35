//! Graceful shutdown: stop admitting, let work end, then cut what is left.
//!
//! Two kinds of task. What [`Shutdown::spawn`] starts is work: the drain waits for it. What
//! [`Shutdown::spawn_service`] starts carries the work (tunnel, lanes, heartbeats, admin): it runs
//! until the work is done, and is stopped then. What [`Shutdown::spawn_last`] starts runs between
//! the two: it says goodbye over what services carry.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error};

/// How long services may take to return once told to stop; a task that ignores it is left behind.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How long the goodbyes may take: a message on its way, not an answer.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// Two signals and a head count. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Told first: listeners stop, sessions send their client a go-away.
    drain: CancellationToken,
    /// Told when the work has ended: say goodbye.
    last: CancellationToken,
    /// Told last: return now.
    stop: CancellationToken,
    work: TaskTracker,
    goodbyes: TaskTracker,
    services: TaskTracker,
    failed: CancellationToken,
    failure: Mutex<Option<Failure>>,
    /// The grace that was ordered: it counts in place of the program's own.
    grace: watch::Sender<Option<Duration>>,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finish {
    /// Every task ended by itself.
    Drained,
    /// The grace period passed.
    Cut {
        /// Tasks that still ran then.
        tasks: usize,
    },
}

/// Why a program can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A task returned an error.
    #[error("{task} ended")]
    Task {
        /// What the task does.
        task: &'static str,
        /// Why it ended.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A task panicked. The panic's own text went to the log.
    #[error("a task panicked: this is a bug, please report it with the log before this line")]
    Panicked,
}

impl Shutdown {
    /// Spawns work that [`Shutdown::finish`] waits for, in the current span.
    ///
    /// The task is dropped at its next await once the drain's grace has passed. Should it panic,
    /// the whole program drains and fails.
    pub fn spawn<F>(&self, task: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.inner.work.spawn(self.guarded(task)).abort_handle()
    }

    /// Spawns a service, in the current span: it runs until all work has ended.
    pub fn spawn_service<F>(&self, task: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.inner.services.spawn(self.guarded(task)).abort_handle()
    }

    /// Spawns what is to run when the work has ended and services still run, for a second at most.
    /// Where there is no time for a drain it does not run at all.
    pub fn spawn_last<F>(&self, task: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let last = self.inner.last.clone();
        let task = async move {
            last.cancelled().await;
            task.await;
        };
        self.inner.goodbyes.spawn(self.guarded(task)).abort_handle()
    }

    /// Spawns a service whose error is the program's: see [`Shutdown::fail`].
    pub fn spawn_essential<F, E>(&self, name: &'static str, task: F) -> AbortHandle
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let shutdown = self.clone();
        self.spawn_service(async move {
            if let Err(error) = task.await {
                shutdown.fail(Failure::Task { task: name, source: error.into() });
            }
        })
    }

    /// The program can't go on: it drains, and [`Shutdown::failed`] resolves. The first one counts.
    pub fn fail(&self, failure: Failure) {
        self.inner.failure.lock().get_or_insert(failure);
        self.inner.failed.cancel();
        self.begin_drain();
    }

    /// Resolves when something failed; gives the failure to the first caller that takes it.
    pub async fn failed(&self) -> Failure {
        self.inner.failed.cancelled().await;
        let taken = self.inner.failure.lock().take();
        match taken {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// The failure, if there was one and nobody has taken it yet.
    pub fn take_failure(&self) -> Option<Failure> {
        self.inner.failure.lock().take()
    }

    /// Starts the drain. [`Shutdown::finish`] is what waits for its end.
    pub fn begin_drain(&self) {
        self.inner.drain.cancel();
    }

    /// Starts the drain with `grace` in place of the program's own. Of several orders the shortest
    /// counts, while the drain is under way too.
    pub fn begin_drain_within(&self, grace: Duration) {
        self.inner.grace.send_modify(|ordered| {
            *ordered = Some(ordered.map_or(grace, |earlier| earlier.min(grace)));
        });
        self.begin_drain();
    }

    /// The grace that was ordered, if it is not to be the program's own.
    pub fn ordered_grace(&self) -> Option<Duration> {
        *self.inner.grace.borrow()
    }

    /// Resolves when draining begins.
    pub async fn draining(&self) {
        self.inner.drain.cancelled().await;
    }

    /// Whether draining has begun.
    pub fn is_draining(&self) -> bool {
        self.inner.drain.is_cancelled()
    }

    /// Resolves when everything has to return now.
    pub async fn stopped(&self) {
        self.inner.stop.cancelled().await;
    }

    /// Cuts whatever still runs, at its next await.
    pub fn stop_now(&self) {
        self.inner.drain.cancel();
        self.inner.stop.cancel();
    }

    /// What a tunnel spawns its tasks with: they are services.
    pub fn tasks(&self) -> antipode_tunnel::Tasks {
        let Inner { services, stop, .. } = &*self.inner;
        antipode_tunnel::Tasks { tracker: services.clone(), stop: stop.clone() }
    }

    /// Work that still runs.
    pub fn work_len(&self) -> usize {
        self.inner.work.len()
    }

    /// Drains for at most `grace`, or what was ordered in its place; then cuts the rest at their
    /// next await.
    pub async fn finish(&self, grace: Duration) -> Finish {
        self.inner.drain.cancel();
        self.inner.work.close();
        let drained = tokio::select! {
            biased;
            () = self.inner.work.wait() => true,
            () = self.grace_passed(grace) => false,
            () = self.inner.stop.cancelled() => self.inner.work.is_empty(),
        };
        let tasks = self.inner.work.len();
        self.inner.last.cancel();
        self.inner.goodbyes.close();
        let _ = timeout(LAST_PATIENCE, self.inner.goodbyes.wait()).await;
        self.inner.stop.cancel();
        self.inner.services.close();
        let all = async {
            self.inner.work.wait().await;
            self.inner.services.wait().await;
        };
        if timeout(STOP_PATIENCE, all).await.is_err() {
            let services = self.inner.services.len();
            error!(services, work = self.inner.work.len(), "tasks did not stop when told to");
        }
        if drained { Finish::Drained } else { Finish::Cut { tasks } }
    }

    async fn grace_passed(&self, own: Duration) {
        let began = Instant::now();
        let mut ordered = self.inner.grace.subscribe();
        loop {
            let grace = ordered.borrow_and_update().unwrap_or(own);
            tokio::select! {
                () = sleep_until(began + grace) => return,
                _ = ordered.changed() => {}
            }
        }
    }

    fn guarded<F>(&self, task: F) -> impl Future<Output = ()> + Send + 'static + use<F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = PanicGuard(self.clone());
        async move {
            let stop = &guard.0.inner.stop;
            stop.run_until_cancelled(task).await;
        }
        .instrument(tracing::Span::current())
    }
}

/// Dropped while its thread unwinds, it fails the program.
struct PanicGuard(Shutdown);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Failure::Panicked);
        }
    }
}

#[cfg(test)]
mod tests;
