//! Sessions on their way between the lanes for chat and those for bulk. It is the node that moves
//! them; the core follows the question that each move asks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use antipode_runtime::clock;
use antipode_tunnel::Class;

use super::Sessions;
use crate::cell::Cell;
use crate::metrics::MoveLabels;

/// Sweeps without a lane for bulk, of one second each, after which bulk goes back among chat: those
/// lanes may be all that is left.
const MISSING_MAX: u32 = 3;

impl Sessions {
    /// Moves a session to a lane of this class, if one is up and the session can move.
    pub(crate) fn shift(&self, cell: &Arc<Cell>, class: Class) {
        let Some(to) = self.pick(class, cell.id) else { return };
        // Lanes come up and go down under this lock: the session finds its new one as it is.
        let _current = to.revoked.lock();
        if !to.queue.is_up() {
            return;
        }
        let moved = cell.change(|machine| {
            let moves = machine.can_move() && !cell.is_on(to.queue.index);
            if moves {
                cell.put_on(&to.queue);
                machine.handle_link_moved(clock::now());
            }
            moves
        });
        if moved {
            self.metrics.moves.get_or_create(&MoveLabels { to: class }).inc();
        }
    }

    /// At the node: sends those that are chat again back, and all if bulk has no lanes any more.
    pub(super) fn settle_classes(&self, now: Instant) {
        if self.count.bulk == 0 || !self.is_node() {
            return;
        }
        let is_missing = self.of_class(Class::Bulk).iter().all(|lane| !lane.queue.is_up());
        let missing = if is_missing { self.bulk_missing.load(Ordering::Relaxed) + 1 } else { 0 };
        self.bulk_missing.store(missing.min(MISSING_MAX), Ordering::Relaxed);
        let belongs_to_chat = |cell: &Cell| {
            let is_light = !cell.is_heavy_still(now);
            cell.class() == Class::Bulk && (is_light || missing >= MISSING_MAX)
        };
        self.for_each_cell(belongs_to_chat, |cell| self.shift(cell, Class::Chat));
    }

    /// How many sessions of this class have something on its way.
    pub(crate) fn busy(&self, class: Class) -> usize {
        let is_busy = |cell: &Cell| cell.class() == class && cell.held() > 0;
        self.cells.iter().filter(|entry| is_busy(entry.value())).count()
    }
}
