//! `drain`: what was begun, how far it is, and what to do next.

use std::path::Path;
use std::time::Duration;

use antipode_proto::registry::v1 as wire;
use antipode_runtime::clock;
use humantime::format_duration;

use super::ask::{self, AskError};

/// How often the gateway is asked how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A line at most so often.
const LINE_INTERVAL: Duration = Duration::from_secs(2);
/// What a member may take beyond its grace: goodbyes, and tasks that are cut.
const SLACK: Duration = Duration::from_secs(15);

/// What was begun.
pub(super) fn begun(
    name: &str,
    begun: &wire::DrainMemberResponse,
    grace: Option<Duration>,
) -> String {
    let time = match grace {
        Some(grace) => format_duration(grace).to_string(),
        None => "its own drain_grace".to_owned(),
    };
    let whereto = match begun.neighbours {
        0 => "No other node can take its clients now: they are told to ask the gateway.".to_owned(),
        1 => "One other node can take its clients.".to_owned(),
        n => format!("{n} other nodes can take its clients."),
    };
    let sessions = sessions(begun.sessions);
    format!("{name} takes no new session; {sessions} have {time}. {whereto}")
}

/// What to do next.
pub(super) fn next_step(name: &str, is_under_way: bool) -> String {
    if is_under_way {
        return format!("`antipode-gateway nodes` shows how far {name} is.");
    }
    format!(
        "{name} has left. Start it again to take it back into service, or take it off for good: \
         antipode-gateway remove {name}"
    )
}

pub(super) fn json(begun: &wire::DrainMemberResponse, is_under_way: bool) -> String {
    serde_json::json!({
        "member_id": begun.member_id,
        "sessions": begun.sessions,
        "neighbours": begun.neighbours,
        "left": !is_under_way,
    })
    .to_string()
}

/// Waits until the member has left, and tells how far it is.
pub(super) async fn watch(
    socket: &Path,
    member_id: &str,
    grace: Option<Duration>,
    tell: impl Fn(String),
) -> Result<(), AskError> {
    let began = clock::now();
    let mut told: Option<(u32, std::time::Instant)> = None;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let members = ask::members(socket).await?;
        let member = members.into_iter().find(|member| member.member_id == member_id);
        let Some(member) = member.filter(|member| !has_left(member)) else { return Ok(()) };
        let passed = clock::now() - began;
        if let Some(grace) = grace
            && passed > grace + SLACK
        {
            return Err(AskError::Stays { name: member.name, grace: passed });
        }
        let is_news = told.is_none_or(|(sessions, _)| sessions != member.sessions);
        let is_time = told.is_none_or(|(_, at)| clock::now() - at >= LINE_INTERVAL);
        if is_news && is_time {
            told = Some((member.sessions, clock::now()));
            tell(progress(&member, grace.map(|grace| grace.saturating_sub(passed))));
        }
    }
}

fn progress(member: &wire::Member, left: Option<Duration>) -> String {
    let left = left.map(|left| {
        let left = format_duration(Duration::from_secs(left.as_secs()));
        format!(", {left} to go")
    });
    format!("{}: {} left{}", member.name, sessions(member.sessions), left.unwrap_or_default())
}

/// Whether its process has ended, or another one has come in its place.
fn has_left(member: &wire::Member) -> bool {
    let by_a_cut = member.health_reason == "silent" || member.health_reason == "stream_lost";
    match member.health.as_str() {
        "draining" => false,
        // It may only have lost its way to the gateway, or have come to its end.
        "suspect" => !by_a_cut,
        _ => true,
    }
}

fn sessions(count: u32) -> String {
    if count == 1 { "1 session".to_owned() } else { format!("{count} sessions") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_is_told_what_happens_and_what_to_do_next() {
        let answer =
            wire::DrainMemberResponse { sessions: 812, neighbours: 2, ..Default::default() };
        assert_eq!(
            begun("sg1", &answer, Some(Duration::from_secs(600))),
            "sg1 takes no new session; 812 sessions have 10m. 2 other nodes can take its clients."
        );
        let alone = wire::DrainMemberResponse { sessions: 1, ..Default::default() };
        assert!(
            begun("sg1", &alone, None).contains("1 session have its own drain_grace. No other")
        );
        let member = |health: &str, reason: &str| wire::Member {
            name: "sg1".into(),
            health: health.into(),
            health_reason: reason.into(),
            sessions: 3,
            ..Default::default()
        };
        let draining = member("draining", "drains");
        assert_eq!(
            progress(&draining, Some(Duration::from_millis(61_500))),
            "sg1: 3 sessions left, 1m 1s to go"
        );
        assert!(!has_left(&draining) && !has_left(&member("suspect", "silent")));
        for (health, reason) in
            [("dead", "process_gone"), ("dead", "silent"), ("joining", "introduced")]
        {
            assert!(has_left(&member(health, reason)), "{health} {reason}");
        }
        assert!(next_step("sg1", false).contains("remove sg1"));
    }
}
