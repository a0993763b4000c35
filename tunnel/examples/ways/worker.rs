//! A thread with a runtime of its own, as each program has, and the processor time that it took.

use std::fs::{self, File};
use std::future::Future;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Failure;

pub(crate) struct Worker {
    usage: PathBuf,
    thread: JoinHandle<Result<(), Failure>>,
}

impl Worker {
    /// Starts `work`, in a namespace if one is named.
    pub(crate) fn start<F>(
        namespace: Option<&str>,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Self, Failure>
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let room = namespace.map(|name| File::open(format!("/run/netns/{name}"))).transpose()?;
        let (tell, told) = mpsc::channel();
        let run = move || -> Result<(), Failure> {
            if let Some(room) = room {
                move_into_link_name_space(room.as_fd(), Some(LinkNameSpaceType::Network))?;
            }
            tell.send(fs::read_link("/proc/thread-self")?)?;
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work())
        };
        let run = move || run().inspect_err(|error| println!("{error}"));
        let thread = std::thread::spawn(run);
        let usage = Path::new("/proc").join(told.recv()?).join("schedstat");
        Ok(Self { usage, thread })
    }

    /// Processor time so far: the first figure, in nanoseconds.
    pub(crate) fn used(&self) -> Result<Duration, Failure> {
        let text = fs::read_to_string(&self.usage)?;
        let nanoseconds = text.split_whitespace().next().ok_or("no figure")?.parse()?;
        Ok(Duration::from_nanos(nanoseconds))
    }

    pub(crate) fn join(self) -> Result<(), Failure> {
        self.thread.join().map_err(|_| "a thread panicked")?
    }
}
