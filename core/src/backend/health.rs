//! One backend's health: a pure machine that counts what checks and sessions saw.

/// How often in a row something must be seen before it is believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Thresholds {
    /// Good checks in a row that bring a backend back.
    pub(crate) up: u32,
    /// Failures in a row that take it out.
    pub(crate) down: u32,
}

/// What is known of a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// Not looked at yet: not healthy.
    Unknown,
    Up,
    Down,
}

impl State {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Counts successes and failures in a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Health {
    thresholds: Thresholds,
    state: State,
    /// Sightings in a row that speak against the state.
    against: u32,
}

/// A state that has just changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Changed {
    pub(crate) from: State,
    pub(crate) to: State,
}

impl Health {
    pub(crate) const fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, state: State::Unknown, against: 0 }
    }

    /// Without checks there is nothing to wait for; failures of sessions still count.
    pub(crate) const fn unchecked(thresholds: Thresholds) -> Self {
        Self { thresholds, state: State::Up, against: 0 }
    }

    pub(crate) const fn state(self) -> State {
        self.state
    }

    /// A check went well, or a session reached the backend.
    pub(crate) fn handle_success(&mut self) -> Option<Changed> {
        match self.state {
            State::Up => self.against = 0,
            State::Unknown => return Some(self.turn(State::Up)),
            State::Down => {
                self.against += 1;
                if self.against >= self.thresholds.up {
                    return Some(self.turn(State::Up));
                }
            }
        }
        None
    }

    /// A check failed, or a session could not reach the backend.
    pub(crate) fn handle_failure(&mut self) -> Option<Changed> {
        match self.state {
            State::Down => self.against = 0,
            State::Unknown => return Some(self.turn(State::Down)),
            State::Up => {
                self.against += 1;
                if self.against >= self.thresholds.down {
                    return Some(self.turn(State::Down));
                }
            }
        }
        None
    }

    fn turn(&mut self, to: State) -> Changed {
        let from = std::mem::replace(&mut self.state, to);
        self.against = 0;
        Changed { from, to }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        check("unknown is not up", "", "unknown");
        check("the first check decides", "+", "up");
        check("either way", "-", "down");
        check("two failures are not enough", "+--", "up");
        check("three are", "+---", "down");
        check("only in a row", "+--+--", "up");
        check("one success does not bring it back", "-+", "down");
        check("two do", "-++", "up");
        check("only in a row", "-+-+", "down");
    }

    #[test]
    fn a_change_is_told_once() {
        let mut health = Health::new(Thresholds { up: 2, down: 3 });
        assert!(health.handle_success().is_some());
        assert!(health.handle_success().is_none());
        assert!(health.handle_failure().is_none());
    }

    #[track_caller]
    fn check(what: &str, seen: &str, expected: &str) {
        let mut health = Health::new(Thresholds { up: 2, down: 3 });
        for sighting in seen.chars() {
            let _ = match sighting {
                '+' => health.handle_success(),
                _ => health.handle_failure(),
            };
        }
        assert_eq!(health.state().label(), expected, "{what}: {seen}");
    }
}
