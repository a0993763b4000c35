//! Who goes when the budget is short.

use std::cmp::Reverse;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use antipode_proto::session::Session;
use antipode_runtime::clock;
use tracing::warn;

use super::{Budget, SWEEP_INTERVAL, Strain};
use crate::cell::Cell;
use crate::metrics::EndLabels;

/// A look at all sessions takes a millisecond for ten thousand: often enough to stay ahead of what
/// a gigabit a second brings, which is 2.5 MB.
const RELIEF_INTERVAL: Duration = Duration::from_millis(20);

/// What they are told.
const DETAIL: &str = "the relay is short of memory, and this session held much without moving";

impl Budget {
    /// Once a second: who has not moved since the last time is stalled; if the budget is tight, the
    /// largest of those go.
    pub(crate) fn handle_timeout(&self, now: Instant) {
        let Some(mut sweep) = self.inner.sweep.try_lock() else { return };
        if sweep.swept.is_some_and(|swept| now < swept + SWEEP_INTERVAL) {
            return;
        }
        sweep.swept = Some(now);
        let (strain, cells) = (self.strain(), self.cells());
        cells.iter().for_each(|cell| cell.mark());
        // Who waits for credit that was held back has to hear that it is there again.
        let was_pressed = std::mem::replace(&mut sweep.pressed, strain >= Strain::Pressed);
        drop(sweep);
        if was_pressed && strain == Strain::Easy {
            cells.iter().for_each(|cell| cell.change(|_| ()));
        }
        if strain >= Strain::Tight {
            self.shed_stalled(&cells);
        }
        if let Some(metrics) = self.inner.metrics.get() {
            metrics.used_bytes.set(i64::try_from(self.used()).unwrap_or(i64::MAX));
        }
    }

    /// The budget is full: ends who may have to go, now.
    pub(crate) fn relieve(&self) {
        let (now, strain) = (clock::now(), self.strain());
        {
            let Some(mut sweep) = self.inner.sweep.try_lock() else { return };
            let lately = sweep.relieved.is_some_and(|relieved| now < relieved + RELIEF_INTERVAL);
            // When over, each look that can help frees much: only one that can't is put off.
            if lately && (strain < Strain::Over || sweep.futile) {
                return;
            }
            sweep.relieved = Some(now);
        }
        let cells = self.cells();
        self.shed_stalled(&cells);
        if self.strain() == Strain::Over {
            self.shed_unread(&cells);
        }
        let futile = self.strain() == Strain::Over;
        self.inner.sweep.lock().futile = futile;
    }

    fn shed_stalled(&self, cells: &[Arc<Cell>]) {
        let stalled = cells.iter().filter(|cell| cell.is_stalled() && cell.look(is_attached));
        let mut stalled: Vec<_> = stalled.map(|cell| (cell.held(), cell)).collect();
        stalled.sort_by_key(|(held, cell)| (Reverse(*held), cell.id));
        for (_, cell) in stalled {
            if self.strain() == Strain::Easy {
                return;
            }
            self.shed(cell);
        }
    }

    /// Whatever their lanes do: what lies unread here came in against our will, and more may come.
    fn shed_unread(&self, cells: &[Arc<Cell>]) {
        let unread = |machine: &Session| machine.held_bytes() - machine.unacked_bytes();
        let mut all: Vec<_> = cells.iter().map(|cell| (cell.look(unread), cell)).collect();
        all.sort_by_key(|(unread, cell)| (Reverse(*unread), cell.id));
        for (unread, cell) in all {
            if unread == 0 || self.strain() < Strain::Full {
                return;
            }
            self.shed(cell);
        }
    }

    fn shed(&self, cell: &Arc<Cell>) {
        let held = cell.held();
        let Some(cause) = cell.shed(DETAIL) else { return };
        let labels = EndLabels::of(cause);
        warn!(session.id = cell.id, cause = %labels.cause, held_bytes = held, "session shed");
        if let Some(metrics) = self.inner.metrics.get() {
            metrics.sessions_shed.get_or_create(&labels).inc();
        }
    }

    /// Every session that there is, in one order.
    fn cells(&self) -> Vec<Arc<Cell>> {
        let trunks: Vec<_> = {
            let mut trunks = self.inner.trunks.lock();
            trunks.retain(|sessions| sessions.strong_count() > 0);
            trunks.iter().filter_map(Weak::upgrade).collect()
        };
        let mut solos = self.inner.solos.lock();
        solos.retain(|cell| cell.strong_count() > 0);
        let mut cells: Vec<_> = solos.iter().filter_map(Weak::upgrade).collect();
        drop(solos);
        cells.extend(trunks.iter().flat_map(|sessions| sessions.cells()));
        cells
    }
}

const fn is_attached(machine: &Session) -> bool {
    machine.is_attached()
}
