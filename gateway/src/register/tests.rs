//! Stories of several members: who is told what, and what steering sees.

use super::*;
use crate::health::HealthReason;

const START: u64 = 3;

struct Lab {
    register: Register,
    now: Instant,
}

#[test]
fn a_core_that_introduces_itself_goes_to_nodes_and_a_node_to_cores() {
    let mut lab = Lab::new(&[("sg", Role::Node), ("eu", Role::Core)]);
    assert!(lab.roster(Role::Node).is_empty(), "nobody knows where the core is");
    lab.introduce("eu", profile("core.example:1"));
    assert_eq!(lab.rosters_told(), [Role::Node]);
    assert_eq!(lab.roster(Role::Node), ["eu"]);
    assert!(lab.roster(Role::Core).is_empty());
    lab.introduce("sg", profile("sg.example:1"));
    assert_eq!(lab.rosters_told(), [Role::Core]);
    assert_eq!(lab.roster(Role::Core), ["sg"]);
}

#[test]
fn the_same_profile_again_tells_nobody_and_another_endpoint_does() {
    let mut lab = Lab::new(&[("eu", Role::Core)]);
    lab.introduce("eu", profile("core.example:1"));
    lab.rosters_told();
    lab.introduce("eu", profile("core.example:1"));
    assert!(lab.rosters_told().is_empty());
    lab.introduce("eu", profile("core.example:2"));
    assert_eq!(lab.rosters_told(), [Role::Node]);
    assert_eq!(lab.register.roster_of(Role::Node).peers[0].endpoints, ["core.example:2"]);
}

#[test]
fn a_restarted_gateway_hands_out_what_it_knew_and_higher_leases() {
    let mut record = record("eu", Role::Core);
    record.profile = Some(profile("core.example:1"));
    let now = antipode_runtime::clock::now();
    let mut register = Register::new(settings(), START, vec![record], now);
    assert_eq!(register.roster_of(Role::Node).peers.len(), 1, "before the core comes back");
    let lease = register.handle_introduction("id-eu", profile("core.example:1"), now).unwrap();
    assert!(lease > Lease((START - 1) << 32 | u64::from(u32::MAX)), "{lease:?}");
}

#[test]
fn the_removed_are_unknown_at_once() {
    let mut lab = Lab::new(&[("sg", Role::Node), ("eu", Role::Core)]);
    let lease = lab.introduce("eu", profile("core.example:1"));
    lab.rosters_told();
    lab.register.handle_removed("id-eu");
    assert_eq!(lab.rosters_told(), [Role::Node]);
    assert!(lab.roster(Role::Node).is_empty());
    assert!(!lab.register.is_member("id-eu"));
    assert_eq!(lab.register.find("eu"), None);
    lab.register.handle_heartbeat("id-eu", lease, heartbeat(), lab.now);
    assert!(
        lab.register.handle_introduction("id-eu", profile("core.example:1"), lab.now).is_none()
    );
    lab.register.handle_removed("id-eu");
    assert!(lab.rosters_told().is_empty());
}

#[test]
fn the_dead_stay_in_rosters_for_a_while_and_come_back_when_heard() {
    let mut lab = Lab::new(&[("eu", Role::Core)]);
    let lease = lab.introduce("eu", profile("core.example:1"));
    lab.rosters_told();
    lab.wait(Duration::from_secs(10));
    assert_eq!(lab.health("eu"), Health::Dead);
    assert_eq!(lab.roster(Role::Node), ["eu"], "its trunks may be alive");
    lab.wait(settings().peer_retention);
    assert_eq!(lab.rosters_told(), [Role::Node]);
    assert!(lab.roster(Role::Node).is_empty());
    assert_eq!(lab.register.poll_timeout(), None, "nothing is left to wait for");
    lab.register.handle_heartbeat("id-eu", lease, heartbeat(), lab.now);
    assert_eq!(lab.rosters_told(), [Role::Node]);
    assert_eq!(lab.roster(Role::Node), ["eu"]);
}

#[test]
fn steering_sees_nodes_by_name_and_what_they_report() {
    let mut lab = Lab::new(&[("syd", Role::Node), ("sg", Role::Node), ("eu", Role::Core)]);
    let lease = lab.introduce("sg", profile("sg.example:1"));
    for _ in 0..2 {
        let report = wire::Heartbeat { sessions: 7, ..heartbeat() };
        lab.register.handle_heartbeat("id-sg", lease, report, lab.now);
        lab.wait(Duration::from_millis(500));
    }
    let snapshot = lab.register.snapshot();
    let names: Vec<_> = snapshot.nodes.iter().map(|node| node.place.name.as_str()).collect();
    assert_eq!(names, ["sg", "syd"]);
    let sg = &snapshot.nodes[0];
    assert_eq!((sg.health, sg.accepting, sg.sessions), (Health::Alive, true, 7));
    assert!(!snapshot.nodes[1].accepting, "unknown takes none");

    lab.introduce("sg", profile("sg.example:1"));
    let anew = &lab.register.snapshot().nodes[0];
    assert_eq!((anew.health, anew.accepting, anew.sessions), (Health::Joining, false, 0));
}

#[test]
fn a_node_needs_a_trunk_and_a_core_does_not() {
    let mut lab = Lab::new(&[("sg", Role::Node), ("eu", Role::Core)]);
    for name in ["sg", "eu"] {
        let lease = lab.introduce(name, profile("x.example:1"));
        for _ in 0..4 {
            let report = wire::Heartbeat { tunnels: Vec::new(), ..heartbeat() };
            lab.register.handle_heartbeat(&format!("id-{name}"), lease, report, lab.now);
            lab.now += Duration::from_millis(500);
        }
    }
    assert_eq!(lab.health("sg"), Health::Joining);
    assert_eq!(lab.health("eu"), Health::Alive);
}

#[test]
fn health_is_told_with_its_reason_and_the_list_shows_it() {
    let mut lab = Lab::new(&[("sg", Role::Node)]);
    lab.introduce("sg", profile("sg.example:1"));
    lab.wait(Duration::from_secs(3));
    let mut told = Vec::new();
    while let Some(output) = lab.register.poll_output() {
        if let Output::Health { name, changed, .. } = output {
            told.push((name, changed.to, changed.reason));
        }
    }
    let silent = HealthReason::Silent;
    let sg = || "sg".to_owned();
    assert_eq!(told, [(sg(), Health::Suspect, silent), (sg(), Health::Dead, silent)]);
    let list = lab.register.list(lab.now, Duration::from_secs(1_800_000_000));
    assert_eq!((list[0].health.as_str(), list[0].health_reason.as_str()), ("dead", "silent"));
    assert_eq!(list[0].last_heartbeat_age_ms, 3000);
    assert!(list[0].tunnel_address.starts_with("fd"), "{}", list[0].tunnel_address);
    let dead = lab.register.count(Role::Node)[4];
    assert_eq!(dead, (Health::Dead, 1));
}

#[test]
fn a_process_that_closed_its_socket_and_stays_away_has_gone() {
    let mut lab = Lab::new(&[("sg", Role::Node), ("eu", Role::Core)]);
    for name in ["sg", "eu"] {
        let lease = lab.introduce(name, run(1));
        lab.beat(name, lease);
        lab.register.handle_stream_lost(&format!("id-{name}"), lease, StreamEnd::Abrupt, lab.now);
        assert_eq!(lab.health(name), Health::Dead);
    }
    assert!(lab.gone().is_empty(), "it may come back");
    lab.wait(GONE_AFTER - Duration::from_millis(1));
    assert!(lab.gone().is_empty());
    lab.wait(Duration::from_millis(1));
    assert_eq!(lab.gone(), [1], "of nodes only: cores have nobody to tell");
    lab.wait(GONE_AFTER);
    assert!(lab.gone().is_empty(), "once");
}

#[test]
fn a_process_that_comes_back_has_not_gone_and_a_new_one_tells_of_the_old() {
    let mut lab = Lab::new(&[("sg", Role::Node)]);
    let lease = lab.introduce("sg", run(1));
    lab.beat("sg", lease);
    lab.register.handle_stream_lost("id-sg", lease, StreamEnd::Abrupt, lab.now);
    lab.wait(Duration::from_secs(1));
    let lease = lab.introduce("sg", run(1));
    assert_eq!(lab.health("sg"), Health::Joining);
    lab.wait(GONE_AFTER);
    assert!(lab.gone().is_empty());

    lab.beat("sg", lease);
    lab.register.handle_stream_lost("id-sg", lease, StreamEnd::Unclear, lab.now);
    assert_eq!(lab.health("sg"), Health::Suspect);
    lab.wait(GONE_AFTER);
    assert!(lab.gone().is_empty(), "its network may be cut");
    lab.introduce("sg", run(2));
    assert_eq!(lab.gone(), [1], "a member has one process");
}

#[test]
fn what_was_silent_before_its_socket_closed_may_be_cut_off() {
    let mut lab = Lab::new(&[("sg", Role::Node)]);
    let lease = lab.introduce("sg", run(1));
    lab.beat("sg", lease);
    lab.wait(Duration::from_millis(1600));
    lab.register.handle_stream_lost("id-sg", lease, StreamEnd::Abrupt, lab.now);
    assert_eq!(lab.health("sg"), Health::Suspect);
    lab.wait(Duration::from_secs(60));
    assert!(lab.gone().is_empty());
}

#[test]
fn an_order_to_leave_holds_for_the_process_that_got_it() {
    let mut lab = Lab::new(&[("sg", Role::Node)]);
    let drain = wire::Drain { reason: "upgrade".into(), grace_ms: 600_000 };
    let order = |lab: &mut Lab| lab.register.handle_drain("sg", drain.clone(), lab.now);
    assert_eq!(order(&mut lab), None, "nobody is there");
    let lease = lab.introduce("sg", run(1));
    lab.beat("sg", lease);
    let (member_id, given) = order(&mut lab).unwrap();
    assert_eq!((member_id.as_str(), &given.drain), ("id-sg", &drain));
    assert_eq!(lab.health("sg"), Health::Draining, "before it has heard of it");
    lab.introduce("sg", run(1));
    assert_eq!(lab.register.order("id-sg"), Some(&given), "its stream broke: tell it again");
    assert_eq!(lab.health("sg"), Health::Draining);
    lab.introduce("sg", run(2));
    assert_eq!(lab.register.order("id-sg"), None, "it was started again");
    assert_eq!(lab.health("sg"), Health::Joining);
    lab.wait(Duration::from_secs(60));
    assert_eq!(order(&mut lab), None, "the dead have left");
    assert_eq!(lab.register.handle_drain("nobody", drain, lab.now), None);
}

#[test]
fn a_timeout_moves_on() {
    let mut lab = Lab::new(&[("a", Role::Node), ("b", Role::Node), ("c", Role::Core)]);
    lab.introduce("a", profile("a.example:1"));
    while let Some((at, _)) = lab.register.poll_timeout() {
        lab.register.handle_timeout(at);
        assert!(lab.register.poll_timeout().is_none_or(|(next, _)| next > at));
    }
}

#[test]
fn reports_are_cut_to_their_bound() {
    let mut lab = Lab::new(&[("sg", Role::Node)]);
    let lease = lab.introduce("sg", profile("sg.example:1"));
    let tunnels = vec![wire::TunnelReport::default(); 5000];
    let report = wire::Heartbeat { tunnels, ..heartbeat() };
    lab.register.handle_heartbeat("id-sg", lease, report, lab.now);
    let list = lab.register.list(lab.now, Duration::ZERO);
    assert_eq!(list[0].tunnels.len(), crate::member::TUNNELS_MAX);
    let unknown = ("unknown", crate::member::TUNNELS_MAX);
    assert!(lab.register.ways().contains(&unknown), "{:?}", lab.register.ways());
}

impl Lab {
    fn new(members: &[(&str, Role)]) -> Self {
        let now = antipode_runtime::clock::now();
        let mut register = Register::new(settings(), START, Vec::new(), now);
        for &(name, role) in members {
            register.handle_enrolled(record(name, role), now);
        }
        Self { register, now }
    }

    fn introduce(&mut self, name: &str, profile: Profile) -> Lease {
        let id = format!("id-{name}");
        self.register.handle_introduction(&id, profile, self.now).unwrap()
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.register.handle_timeout(self.now);
    }

    fn health(&self, name: &str) -> Health {
        self.register.members[&format!("id-{name}")].health.health()
    }

    fn roster(&self, role: Role) -> Vec<String> {
        self.register.roster_of(role).peers.into_iter().map(|peer| peer.name).collect()
    }

    fn rosters_told(&mut self) -> Vec<Role> {
        let outputs = std::iter::from_fn(|| self.register.poll_output());
        outputs
            .filter_map(|output| match output {
                Output::RosterOf(role) => Some(role),
                Output::Health { .. } | Output::Gone(_) => None,
            })
            .collect()
    }

    /// The runs of the processes that have gone.
    fn gone(&mut self) -> Vec<u8> {
        let outputs = std::iter::from_fn(|| self.register.poll_output());
        outputs
            .filter_map(|output| match output {
                Output::Gone(gone) => Some(gone.run[0]),
                Output::Health { .. } | Output::RosterOf(_) => None,
            })
            .collect()
    }

    fn beat(&mut self, name: &str, lease: Lease) {
        self.register.handle_heartbeat(&format!("id-{name}"), lease, heartbeat(), self.now);
    }
}

/// Run `n` of a process.
fn run(n: u8) -> Profile {
    Profile { run: [n; 16], ..profile("a.example:1") }
}

fn settings() -> Settings {
    Settings { thresholds: Thresholds::default(), peer_retention: Duration::from_secs(3600) }
}

fn profile(endpoint: &str) -> Profile {
    Profile { endpoints: vec![endpoint.into()], ..Profile::default() }
}

fn heartbeat() -> wire::Heartbeat {
    let tunnels = vec![wire::TunnelReport { trunk_up: true, ..Default::default() }];
    wire::Heartbeat { accepting: true, tunnels, ..Default::default() }
}

fn record(name: &str, role: Role) -> MemberRecord {
    MemberRecord {
        member_id: format!("id-{name}"),
        name: name.into(),
        role,
        wireguard_public_key: [9; 32],
        certificate_serial: String::new(),
        certificate_ends_unix_seconds: 0,
        enrolled_unix_seconds: 0,
        removed_unix_seconds: None,
        profile: None,
    }
}
