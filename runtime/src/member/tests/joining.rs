//! How a program becomes a member, and what each mistake is told.

use std::os::unix::fs::MetadataExt;

use super::gateway::{DAY, Desk, MEMBER_ID, SECRET};
use super::*;
use crate::member::token::JoinToken;
use crate::member::{DialError, Refusal};
use crate::secret::SecretString;
use crate::telemetry::chain;

#[tokio::test]
async fn a_token_is_traded_for_an_identity_that_lasts() {
    let (dir, gateway) = (tempfile::tempdir().unwrap(), Gateway::start().await);
    let config = config_with_token(dir.path(), &gateway);
    let member = join(&config, &Shutdown::default()).await.unwrap();
    assert_eq!(member.identity().member_id(), MEMBER_ID);
    assert_eq!(member.identity().gateway(), gateway.address.to_string());
    assert_eq!(member.roster().borrow().peers, []);

    let request = gateway.desk.enrolled.lock().pop().unwrap();
    assert_eq!((request.name.as_str(), request.role()), ("sg-1", Role::Node));
    let key = member.identity().wireguard_key().public_key();
    assert_eq!(request.wireguard_public_key, key.as_bytes().as_slice());
    for entry in std::fs::read_dir(dir.path().join("state")).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }

    let token = config.join_token_file.as_ref().unwrap();
    std::fs::remove_file(token).unwrap();
    let again = join(&config, &Shutdown::default()).await.unwrap();
    assert_eq!(again.identity().member_id(), MEMBER_ID);
    assert_eq!(again.identity().wireguard_key().public_key(), key);
    assert!(gateway.desk.enrolled.lock().is_empty(), "an identity is made once");
}

#[tokio::test]
async fn the_wrong_secret_is_refused() {
    let (dir, gateway) = (tempfile::tempdir().unwrap(), Gateway::start().await);
    let config = config_with_token(dir.path(), &gateway);
    let secret = SecretString::from("the-wrong-secret");
    let token = JoinToken::new(gateway.address.to_string(), gateway.pin(), secret).unwrap();
    std::fs::write(dir.path().join("join-token"), token.expose().expose_secret()).unwrap();

    let error = join(&config, &Shutdown::default()).await.unwrap_err();
    assert!(matches!(error, JoinError::Refused(Refusal::UnknownToken)), "{error:?}");
    assert!(!chain(&error).contains("the-wrong-secret"));
}

#[tokio::test]
async fn every_refusal_reaches_the_operator() {
    let (dir, gateway) = (tempfile::tempdir().unwrap(), Gateway::start().await);
    let config = config_with_token(dir.path(), &gateway);
    for refusal in Refusal::ALL {
        *gateway.desk.refuse.lock() = Some(refusal);
        let error = join(&config, &Shutdown::default()).await.unwrap_err();
        assert_eq!(error.to_string(), refusal.to_string());
    }
    *gateway.desk.refuse.lock() = None;
    assert!(join(&config, &Shutdown::default()).await.is_ok(), "nothing of it is remembered");
}

#[tokio::test]
async fn an_impostor_gets_no_secret() {
    let (dir, gateway) = (tempfile::tempdir().unwrap(), Gateway::start().await);
    let impostor = Gateway::start().await;
    let mut config = config_with_token(dir.path(), &gateway);
    config.gateway = Some(impostor.address.to_string());
    let error = join(&config, &Shutdown::default()).await.unwrap_err();
    assert!(matches!(error, JoinError::Dial(DialError::WrongPin { .. })), "{error:?}");
    assert!(impostor.desk.enrolled.lock().is_empty());
}

/// The pinned authority in the chain is not enough: it must have signed the server's certificate.
#[tokio::test]
async fn a_borrowed_authority_does_not_help_an_impostor() {
    let (dir, gateway) = (tempfile::tempdir().unwrap(), Gateway::start().await);
    let borrowed = Desk { authority: gateway.desk.authority.clone(), ..Desk::new() };
    let impostor = Gateway::start_with(borrowed).await;
    let mut config = config_with_token(dir.path(), &gateway);
    config.gateway = Some(impostor.address.to_string());
    let error = join(&config, &Shutdown::default()).await.unwrap_err();
    assert!(matches!(error, JoinError::Dial(DialError::Stranger { .. })), "{error:?}");
    assert!(impostor.desk.enrolled.lock().is_empty());
}

/// A member's certificate is by the same authority, and yet no gateway's.
#[tokio::test]
async fn a_member_can_not_pose_as_the_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let member = Desk { server_name: "n-2.member.antipode", ..Desk::new() };
    let impostor = Gateway::start_with(member).await;
    let config = config_with_token(dir.path(), &impostor);
    let error = join(&config, &Shutdown::default()).await.unwrap_err();
    assert!(matches!(error, JoinError::Dial(DialError::Stranger { .. })), "{error:?}");
}

#[tokio::test]
async fn wrong_clocks_are_told_with_the_time_here() {
    for server_validity in [(DAY, 2 * DAY), (-2 * DAY, -DAY)] {
        let dir = tempfile::tempdir().unwrap();
        let desk = Desk { server_validity, ..Desk::new() };
        let gateway = Gateway::start_with(desk).await;
        let config = config_with_token(dir.path(), &gateway);
        let error = join(&config, &Shutdown::default()).await.unwrap_err();
        assert!(matches!(error, JoinError::Dial(DialError::Clock { .. })), "{error:?}");
        assert!(error.to_string().contains("timedatectl"), "{error}");
    }
}

#[tokio::test]
async fn an_identity_out_of_its_time_is_not_used() {
    for (validity, expected) in [((DAY, 2 * DAY), "begins at"), ((-2 * DAY, -DAY), "ended at")] {
        let (dir, gateway) = (tempfile::tempdir().unwrap(), Gateway::start().await);
        *gateway.desk.member_validity.lock() = validity;
        let config = config_with_token(dir.path(), &gateway);
        assert!(join(&config, &Shutdown::default()).await.is_ok(), "joining itself has no past");
        let error = join(&config, &Shutdown::default()).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn nothing_listens_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start().await;
    gateway.stop().await;
    let config = config_with_token(dir.path(), &gateway);
    let error = join(&config, &Shutdown::default()).await.unwrap_err();
    assert!(matches!(error, JoinError::Dial(DialError::Unreachable { .. })), "{error:?}");
    let told = chain(&error);
    assert!(told.contains(&gateway.address.to_string()) && told.contains("refused"), "{told}");
}

#[tokio::test]
async fn a_member_that_starts_first_waits_for_its_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start().await;
    gateway.stop().await;
    let mut config = config_with_token(dir.path(), &gateway);
    config.join_patience = HANGS;
    let shutdown = Shutdown::default();
    let (joined, ()) = tokio::join!(join(&config, &shutdown), gateway.restart());
    assert!(joined.is_ok(), "{joined:?}");
}

#[tokio::test]
async fn without_a_token_the_command_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = join(&config(dir.path()), &Shutdown::default()).await.unwrap_err();
    let told = error.to_string();
    assert!(told.contains("antipode-gateway token create --role node"), "{told}");
}

#[tokio::test]
async fn a_file_that_holds_no_token_is_named() {
    let (dir, gateway) = (tempfile::tempdir().unwrap(), Gateway::start().await);
    let config = config_with_token(dir.path(), &gateway);
    let path = dir.path().join("join-token");
    std::fs::write(&path, "hunter2").unwrap();
    let error = join(&config, &Shutdown::default()).await.unwrap_err();
    let told = chain(&error);
    assert!(told.contains(path.to_str().unwrap()) && !told.contains("hunter2"), "{told}");
}

#[tokio::test]
async fn a_state_directory_that_can_not_be_written_is_told_before_the_token_is_spent() {
    let (dir, gateway) = (tempfile::tempdir().unwrap(), Gateway::start().await);
    let mut config = config_with_token(dir.path(), &gateway);
    config.state_dir = dir.path().join("join-token");
    let error = join(&config, &Shutdown::default()).await.unwrap_err();
    assert!(matches!(error, JoinError::State { .. }), "{error:?}");
    assert!(error.to_string().contains("`member.state_dir`"), "{error}");
    assert!(gateway.desk.enrolled.lock().is_empty());
}

#[tokio::test]
async fn a_state_directory_belongs_to_one_member_of_one_gateway() {
    let (dir, gateway) = (tempfile::tempdir().unwrap(), Gateway::start().await);
    let config = config_with_token(dir.path(), &gateway);
    join(&config, &Shutdown::default()).await.unwrap();

    let renamed = MemberConfig { name: "sg-2".parse().unwrap(), ..config.clone() };
    let error = join(&renamed, &Shutdown::default()).await.unwrap_err();
    assert!(error.to_string().contains("the node \"sg-1\""), "{error}");

    let other = Gateway::start().await;
    let moved = config_with_token(dir.path(), &other);
    let error = join(&moved, &Shutdown::default()).await.unwrap_err();
    assert!(matches!(error, JoinError::OtherGateway { .. }), "{error:?}");
}

#[tokio::test]
async fn a_gateway_may_move_and_keep_its_authority() {
    let (dir, gateway) = (tempfile::tempdir().unwrap(), Gateway::start().await);
    let mut config = config_with_token(dir.path(), &gateway);
    join(&config, &Shutdown::default()).await.unwrap();

    config.gateway = Some("elsewhere.example:7443".into());
    let member = join(&config, &Shutdown::default()).await.unwrap();
    assert_eq!(member.identity().gateway(), "elsewhere.example:7443");
    config.gateway = None;
    config.join_token_file = None;
    let member = join(&config, &Shutdown::default()).await.unwrap();
    assert_eq!(member.identity().gateway(), "elsewhere.example:7443", "the move is remembered");

    config.gateway = Some("elsewhere.example".into());
    let error = join(&config, &Shutdown::default()).await.unwrap_err();
    assert!(matches!(error, JoinError::Address { .. }), "{error:?}");
}

#[tokio::test]
async fn a_damaged_state_directory_is_not_guessed_at() {
    for file in ["member.json", "member.crt", "authority.crt", "tls.key", "wireguard.key"] {
        let (dir, gateway) = (tempfile::tempdir().unwrap(), Gateway::start().await);
        let config = config_with_token(dir.path(), &gateway);
        join(&config, &Shutdown::default()).await.unwrap();
        let path = config.state_dir.join(file);
        std::fs::write(&path, "damaged").unwrap();
        let told = chain(&join(&config, &Shutdown::default()).await.unwrap_err());
        assert!(told.contains(path.to_str().unwrap()), "{told}");
    }
}

#[tokio::test]
async fn a_lost_key_is_not_replaced_behind_the_certificate() {
    let (dir, gateway) = (tempfile::tempdir().unwrap(), Gateway::start().await);
    let config = config_with_token(dir.path(), &gateway);
    join(&config, &Shutdown::default()).await.unwrap();
    std::fs::remove_file(config.state_dir.join("tls.key")).unwrap();
    let error = join(&config, &Shutdown::default()).await.unwrap_err();
    assert!(matches!(error, JoinError::Damaged { .. }), "{error:?}");
    assert_eq!(gateway.token().secret().expose_secret(), SECRET);
}
