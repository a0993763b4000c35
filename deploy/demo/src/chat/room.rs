//! The room: who is in it, what was said last, and how it reaches everybody.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::message::{Refusal, Said, ToPage};
use super::{PEOPLE_MAX, RECENT_MAX, WAITING_MAX};

/// One chat room. Clones are the same room.
#[derive(Clone, Debug)]
pub struct Room {
    state: Arc<Mutex<State>>,
    news: broadcast::Sender<ToPage>,
}

#[derive(Debug, Default)]
struct State {
    people: usize,
    said: u64,
    recent: VecDeque<Said>,
}

/// A person's place in the room; dropping it leaves.
#[derive(Debug)]
pub(super) struct Place {
    room: Room,
    pub(super) news: broadcast::Receiver<ToPage>,
}

impl Default for Room {
    fn default() -> Self {
        Self { state: Arc::default(), news: broadcast::Sender::new(WAITING_MAX) }
    }
}

impl Room {
    /// Takes a place, and returns it with the welcome.
    pub(super) fn enter(&self) -> Result<(Place, ToPage), Refusal> {
        let mut state = self.state.lock();
        if state.people >= PEOPLE_MAX {
            return Err(Refusal::Full);
        }
        state.people += 1;
        let people = state.people;
        // The others hear of it before the newcomer listens.
        let _ = self.news.send(ToPage::People { people });
        let place = Place { room: self.clone(), news: self.news.subscribe() };
        let welcome = ToPage::Welcome { people, recent: state.recent.iter().cloned().collect() };
        Ok((place, welcome))
    }

    /// Tells everybody.
    pub(super) fn say(&self, name: &str, region: &str, text: String, sent_at_us: Option<u64>) {
        let mut state = self.state.lock();
        state.said += 1;
        let (name, region) = (name.to_owned(), region.to_owned());
        let said = Said { id: state.said, name, region, text, sent_at_us };
        if state.recent.len() == RECENT_MAX {
            state.recent.pop_front();
        }
        state.recent.push_back(said.clone());
        // Under the lock, so that all hear things in the order of their ids.
        let _ = self.news.send(ToPage::Said(said));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.room.state.lock();
        state.people -= 1;
        let _ = self.room.news.send(ToPage::People { people: state.people });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_is_counted_and_reads_what_was_said() {
        let room = Room::default();
        let (mut first, _) = room.enter().unwrap();
        room.say("Ana", "sydney", "anyone?".into(), None);
        let (second, welcome) = room.enter().unwrap();
        let ToPage::Welcome { people, recent } = welcome else { panic!("{welcome:?}") };
        assert_eq!((people, recent.len(), recent[0].text.as_str()), (2, 1, "anyone?"));

        assert!(matches!(first.news.try_recv(), Ok(ToPage::Said(_))));
        assert_eq!(first.news.try_recv(), Ok(ToPage::People { people: 2 }));
        drop(second);
        assert_eq!(first.news.try_recv(), Ok(ToPage::People { people: 1 }));
    }

    #[test]
    fn a_room_has_an_end_and_a_short_memory() {
        let room = Room::default();
        for number in 0..=RECENT_MAX {
            room.say("Ana", "", number.to_string(), None);
        }
        let mut places: Vec<_> = (0..PEOPLE_MAX).map(|_| room.enter().unwrap()).collect();
        assert_eq!(room.enter().unwrap_err(), Refusal::Full);
        let (_, welcome) = places.pop().unwrap();
        let ToPage::Welcome { recent, .. } = welcome else { panic!("{welcome:?}") };
        let texts: Vec<_> = recent.iter().map(|said| said.text.as_str()).collect();
        assert_eq!((texts.len(), texts[0], recent[0].id), (RECENT_MAX, "1", 2));
        assert!(room.enter().is_ok(), "a place was given back");
    }
}
