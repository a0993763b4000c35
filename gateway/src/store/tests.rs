//! The store across restarts, and every reason not to let somebody join.

use super::*;

const NOW: u64 = 1_800_000_000;

#[test]
fn what_is_written_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.count_start().unwrap(), 1);
    store.add_token(token_hash("s"), &token(2, NOW + 60), NOW).unwrap();
    store.enrol(token_hash("s"), &member("a", 1), 10, NOW).unwrap();
    let profile = Profile { region: "eu".into(), location: Some((1.5, 2.5)), ..Profile::default() };
    store.keep_profile("id-a", &profile).unwrap();
    drop(store);

    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.count_start().unwrap(), 2);
    let kept = store.members().unwrap();
    assert_eq!(kept, [MemberRecord { profile: Some(profile), ..member("a", 1) }]);
    store.enrol(token_hash("s"), &member("b", 2), 10, NOW).unwrap();
    check(&store, "the uses went on counting", &member("c", 3), "token_used");
}

#[test]
fn each_reason_has_its_word() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    check(&store, "no such token", &member("a", 1), "token_unknown");
    store.add_token(token_hash("s"), &token(9, NOW), NOW - 1).unwrap();
    check(&store, "too late by a second", &member("a", 1), "token_expired");
    store.add_token(token_hash("s"), &token(9, NOW + 60), NOW).unwrap();
    let core = MemberRecord { role: Role::Core, ..member("a", 1) };
    check(&store, "the other role", &core, "token_role");
    store.enrol(token_hash("s"), &member("a", 1), 2, NOW).unwrap();
    check(&store, "the name", &member("a", 2), "name_taken");
    check(&store, "the key", &member("b", 1), "key_taken");
    store.enrol(token_hash("s"), &member("b", 2), 2, NOW).unwrap();
    check(&store, "no room", &member("c", 3), "full");
}

#[test]
fn a_refused_attempt_costs_no_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.add_token(token_hash("s"), &token(2, NOW + 60), NOW).unwrap();
    store.enrol(token_hash("s"), &member("a", 1), 9, NOW).unwrap();
    for _ in 0..5 {
        check(&store, "taken", &member("a", 2), "name_taken");
    }
    store.enrol(token_hash("s"), &member("b", 2), 9, NOW).unwrap();
}

#[test]
fn one_use_lets_in_one_of_many_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.add_token(token_hash("s"), &token(1, NOW + 60), NOW).unwrap();
    let joined: usize = std::thread::scope(|scope| {
        let join = |n: u8| {
            let store = &store;
            scope.spawn(move || store.enrol(token_hash("s"), &member(&format!("m{n}"), n), 99, NOW))
        };
        let attempts: Vec<_> = (1..9).map(join).collect();
        attempts.into_iter().filter_map(|attempt| attempt.join().unwrap().ok()).count()
    });
    assert_eq!(joined, 1);
}

#[test]
fn the_removed_give_back_name_and_key_but_stay_known_until_their_certificate_ends() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.add_token(token_hash("s"), &token(9, NOW + 60), NOW).unwrap();
    store.enrol(token_hash("s"), &member("a", 1), 1, NOW).unwrap();
    store.remove("id-a", NOW + 1).unwrap();
    let kept = store.members().unwrap();
    assert_eq!(kept.len(), 1);
    assert!(!kept[0].is_member());

    let again = MemberRecord { member_id: "id-a2".into(), ..member("a", 1) };
    store.enrol(token_hash("s"), &again, 1, NOW + 2).unwrap();
    store.remove("id-a2", NOW + 5_000).unwrap();
    let kept: Vec<_> = store.members().unwrap().into_iter().map(|m| m.member_id).collect();
    assert!(kept.is_empty(), "both certificates have ended: {kept:?}");
    store.remove("nobody", NOW).unwrap();
}

#[test]
fn ended_tokens_are_dropped_and_open_ones_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.add_token(token_hash("old"), &token(1, NOW), NOW - 5).unwrap();
    store.add_token(token_hash("new"), &token(1, NOW + 60), NOW).unwrap();
    let read = store.database.begin_read().unwrap();
    let tokens = read.open_table(TOKENS).unwrap();
    assert!(tokens.get(token_hash("old")).unwrap().is_none());
    assert!(tokens.get(token_hash("new")).unwrap().is_some());
}

#[test]
fn a_second_gateway_and_a_later_format_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    store
        .write(|write| {
            write.open_table(META)?.insert("format", 2)?;
            Ok(())
        })
        .unwrap();
    drop(store);
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Format { found: 2, .. }), "{error:?}");
}

#[test]
fn no_secret_is_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.add_token(token_hash("s3cret-s3cret"), &token(1, NOW + 60), NOW).unwrap();
    drop(store);
    let bytes = std::fs::read(dir.path().join(FILE)).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"s3cret"));
}

#[track_caller]
fn check(store: &Store, what: &str, newcomer: &MemberRecord, label: &str) {
    let refused = store.enrol(token_hash("s"), newcomer, 2, NOW).unwrap_err();
    assert_eq!(refused.label(), label, "{what}");
}

fn token(uses_left: u32, expires_unix_seconds: u64) -> TokenRecord {
    TokenRecord { role: Role::Node, uses_left, expires_unix_seconds }
}

fn member(name: &str, key: u8) -> MemberRecord {
    MemberRecord {
        member_id: format!("id-{name}"),
        name: name.into(),
        role: Role::Node,
        wireguard_public_key: [key; 32],
        certificate_serial: "01".into(),
        certificate_ends_unix_seconds: NOW + 1_000,
        enrolled_unix_seconds: NOW,
        removed_unix_seconds: None,
        profile: None,
    }
}
