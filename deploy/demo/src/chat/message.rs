//! The chat's messages as types, and the rules for what may be said.

use serde::{Deserialize, Serialize};

use super::{NAME_CHARS_MAX, TEXT_CHARS_MAX};

/// A message from a page.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum FromPage {
    /// Who talks, and from where.
    Hello {
        /// For people to read.
        name: String,
        /// One of the demo's regions, or empty.
        #[serde(default)]
        region: String,
    },
    /// Something for everybody.
    Say {
        /// The words.
        text: String,
        /// The sender's clock in microseconds, if it wants it back. A whole number, since fractions
        /// need not survive JSON bit by bit.
        #[serde(default)]
        sent_at_us: Option<u64>,
    },
    /// Comes back as it is.
    Echo {
        /// Tells answers apart.
        id: u64,
    },
}

/// A message to a page.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ToPage {
    /// Answers a hello.
    Welcome {
        /// Who is here, the newcomer among them.
        people: usize,
        /// What was said last, oldest first.
        recent: Vec<Said>,
    },
    /// Somebody said something.
    Said(Said),
    /// Somebody came or went.
    People {
        /// Who is here now.
        people: usize,
    },
    /// The answer to an echo.
    Echo {
        /// As it was asked.
        id: u64,
    },
    /// The last message was not taken.
    Refused {
        /// In words for people.
        why: String,
    },
}

/// One thing that was said.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Said {
    /// Counts what was said in this room.
    pub id: u64,
    /// By whom.
    pub name: String,
    /// From where.
    pub region: String,
    /// The words.
    pub text: String,
    /// The sender's clock in microseconds when it said so.
    pub sent_at_us: Option<u64>,
}

/// Why something was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// It is no JSON, or not one of the protocol's messages.
    #[error("this is not a message of the chat; its protocol has hello, say and echo")]
    Malformed,
    /// A binary message.
    #[error("the chat speaks text, not binary messages")]
    Binary,
    /// A say before the hello.
    #[error("say hello first")]
    Unintroduced,
    /// Blank, or too long.
    #[error("a name has 1 to {NAME_CHARS_MAX} characters")]
    Name,
    /// Blank, or too long.
    #[error("a message has 1 to {TEXT_CHARS_MAX} characters")]
    Text,
    /// More than [`super::PEOPLE_MAX`].
    #[error("the room is full, come back later")]
    Full,
}

impl FromPage {
    /// Reads a text message and checks its lengths; names and words lose surrounding blanks.
    ///
    /// # Errors
    /// Says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let message = serde_json::from_str(text).map_err(|_| Refusal::Malformed)?;
        match message {
            Self::Hello { name, region } => {
                let name = within(&name, NAME_CHARS_MAX).ok_or(Refusal::Name)?;
                let region = region.chars().take(NAME_CHARS_MAX).collect();
                Ok(Self::Hello { name, region })
            }
            Self::Say { text, sent_at_us } => {
                let text = within(&text, TEXT_CHARS_MAX).ok_or(Refusal::Text)?;
                Ok(Self::Say { text, sent_at_us })
            }
            Self::Echo { id } => Ok(Self::Echo { id }),
        }
    }
}

impl ToPage {
    /// The message as it goes over the wire.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are always JSON")
    }
}

fn within(text: &str, chars_max: usize) -> Option<String> {
    let text = text.trim();
    (1..=chars_max).contains(&text.chars().count()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_protocol_table_shows() {
        let hello = FromPage::Hello { name: "Ana".into(), region: "sydney".into() };
        check(r#"{"op":"hello","name":" Ana ","region":"sydney"}"#, Ok(hello));
        let say = FromPage::Say { text: "hi".into(), sent_at_us: Some(1_795_417_285_123_457) };
        check(r#"{"op":"say","text":"hi","sent_at_us":1795417285123457}"#, Ok(say));
        check(r#"{"op":"echo","id":7}"#, Ok(FromPage::Echo { id: 7 }));
    }

    #[test]
    fn refuses_what_breaks_a_rule() {
        check("", Err(Refusal::Malformed));
        check(r#"{"op":"dance"}"#, Err(Refusal::Malformed));
        check(r#"{"op":"echo","id":-1}"#, Err(Refusal::Malformed));
        check(r#"{"op":"say","text":" \n "}"#, Err(Refusal::Text));
        check(r#"{"op":"hello","name":""}"#, Err(Refusal::Name));
        let long = |chars| format!(r#"{{"op":"say","text":"{}"}}"#, "é".repeat(chars));
        assert!(FromPage::parse(&long(TEXT_CHARS_MAX)).is_ok());
        check(&long(TEXT_CHARS_MAX + 1), Err(Refusal::Text));
    }

    #[test]
    fn writes_what_the_protocol_table_shows() {
        let said = Said {
            id: 1,
            name: "Ana".into(),
            region: "sydney".into(),
            text: "hi".into(),
            sent_at_us: Some(1_795_417_285_123_457),
        };
        let json = concat!(
            r#"{"op":"said","id":1,"name":"Ana","region":"sydney","#,
            r#""text":"hi","sent_at_us":1795417285123457}"#
        );
        assert_eq!(ToPage::Said(said).to_json(), json);
        assert_eq!(ToPage::People { people: 3 }.to_json(), r#"{"op":"people","people":3}"#);
    }

    #[track_caller]
    fn check(text: &str, expected: Result<FromPage, Refusal>) {
        assert_eq!(FromPage::parse(text), expected, "{text}");
    }
}
