//! The HTTP and gRPC faces, health and reflection.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use antipode_gateway::member::Role;
use antipode_proto::steering::v1 as wire;
use antipode_proto::steering::v1::steering_client::SteeringClient;
use tokio::net::{TcpStream, UnixStream};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

mod support;
use support::{Gateway, over};

#[tokio::test(flavor = "multi_thread")]
async fn the_http_face_answers_any_origin_and_keeps_nothing() {
    let gateway = Gateway::start().await;
    let (status, head, body) = gateway.get("/v1/steer?tz=Asia/Singapore").await;
    assert_eq!(status, 503, "nobody is there");
    for line in ["access-control-allow-origin: *", "cache-control: no-store", "retry-after: 2"] {
        assert!(head.contains(line), "no {line} in {head}");
    }
    let expected = serde_json::json!({
        "candidates": [], "reason": "none", "located_by": "time_zone", "retry_after_ms": 2000,
    });
    assert_eq!(body, expected);
    gateway.enrol("sg", Role::Node, 1).await.unwrap();
    gateway.enrol("eu", Role::Core, 2).await.unwrap();
    let (status, head, body) = gateway.get("/v1/nodes").await;
    assert_eq!(status, 200);
    assert!(head.contains("access-control-allow-origin: *"), "{head}");
    let node = serde_json::json!({
        "name": "sg", "region": "", "location": null, "health": "joining", "urls": [],
    });
    assert_eq!(body, serde_json::json!({ "nodes": [node] }), "nothing private, and no core");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_question_is_told_what_is_wrong() {
    let gateway = Gateway::start().await;
    for (target, status, word) in [
        ("/v1/steer?lat=1", 400, "together"),
        ("/v1/steer?lat=91&lon=0", 400, "-90 to 90"),
        ("/v1/steer?lat=NaN&lon=0", 400, "-90 to 90"),
        ("/v1/steer?lat=x&lon=0", 400, "numbers"),
        ("/v1/steer?max=-1", 400, "max"),
        ("/v1/steer?max=1&max=2", 400, "once"),
        ("/v1/other", 404, "/v1/steer"),
    ] {
        let (found, head, body) = gateway.get(target).await;
        assert_eq!(found, status, "{target}: {body}");
        let error = body["error"].as_str().unwrap_or_default();
        assert!(error.contains(word), "{target}: {body}");
        assert!(head.contains("access-control-allow-origin: *"), "{target}: {head}");
    }
    let long = format!("/v1/steer?tz={}", "x".repeat(40_000));
    assert_eq!(gateway.get(&long).await.0, 431);
    assert_eq!(gateway.get("/v1/nodes").await.0, 200, "and it goes on serving");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_country_header_counts_from_a_trusted_proxy() {
    let steer =
        "steer = { trusted_proxies = [\"127.0.0.0/8\"], country_header = \"CF-IPCountry\" }";
    let trusting = Gateway::start_with(steer).await;
    let header = "CF-IPCountry: SG\r\nX-Forwarded-For: 203.0.113.5\r\n";
    let (_, _, body) = trusting.get_with("/v1/steer?tz=Europe/Paris", header).await;
    assert_eq!(body["located_by"], "country");
    let strict = Gateway::start().await;
    let (_, _, body) = strict.get_with("/v1/steer?tz=Europe/Paris", header).await;
    assert_eq!(body["located_by"], "time_zone");
    let (_, _, body) = strict.get("/v1/steer?lat=1&lon=2&country=SG").await;
    assert_eq!(body["located_by"], "coordinates");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grpc_face_answers_the_same() {
    let gateway = Gateway::start().await;
    let mut client = SteeringClient::new(grpc(&gateway).await);
    let asked = wire::SteerRequest { country: "SG".into(), ..Default::default() };
    let answer = client.steer(asked).await.unwrap().into_inner();
    assert_eq!((answer.reason.as_str(), answer.located_by.as_str()), ("none", "country"));
    assert_eq!(answer.retry_after_ms, 2000);
    for bad in [
        wire::SteerRequest { latitude: Some(1.0), ..Default::default() },
        wire::SteerRequest { latitude: Some(1.0), longitude: Some(999.0), ..Default::default() },
        wire::SteerRequest { client_ip: "here".into(), ..Default::default() },
    ] {
        assert_eq!(client.steer(bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_grpc_listener_has_health_and_reflection() {
    let gateway = Gateway::start().await;
    let socket = UnixStream::connect(&gateway.app.addresses().socket).await.unwrap();
    for (service, channel) in [
        ("antipode.registry.v1.Registry", gateway.channel(None).await.unwrap()),
        ("antipode.registry.v1.Admin", over(socket).await),
        ("antipode.steering.v1.Steering", grpc(&gateway).await),
    ] {
        let request = HealthCheckRequest { service: service.into() };
        let answer = HealthClient::new(channel.clone()).check(request).await.unwrap();
        assert_eq!(answer.into_inner().status, 1, "{service} is serving");

        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut answers = ServerReflectionClient::new(channel)
            .server_reflection_info(tokio_stream::once(request))
            .await
            .unwrap()
            .into_inner();
        let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
        let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        assert!(names.iter().any(|name| name == service), "{service} in {names:?}");
    }
}

async fn grpc(gateway: &Gateway) -> Channel {
    let address = gateway.app.addresses().grpc.unwrap();
    over(TcpStream::connect(address).await.unwrap()).await
}
