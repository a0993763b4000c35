//! Who is named to whom: a table of small meshes.

use super::*;

/// A station at a latitude on one meridian: 111 km for each degree, 1.66 ms.
fn station(name: &str, latitude: f64, rtt_ms: u32) -> Station {
    Station {
        member_id: format!("id-{name}"),
        name: name.to_owned(),
        public_key: [name.as_bytes()[0]; 32],
        endpoints: vec![format!("{name}.example:51820")],
        position: Position::new(latitude, 0.0),
        offers: Offer::Open,
        rtt_us: Some(rtt_ms * 1000),
        uses: Some(Vec::new()),
    }
}

fn forwarders(mesh: &Mesh, name: &str) -> Vec<String> {
    let forwarders = mesh.forwarders(&format!("id-{name}")).unwrap();
    forwarders.nodes.iter().map(|node| node.name.clone()).collect()
}

fn forwarded(mesh: &Mesh, name: &str) -> Vec<String> {
    let forwarded = mesh.forwarded(&format!("id-{name}")).unwrap();
    forwarded.nodes.iter().map(|node| node.name.clone()).collect()
}

#[test]
fn the_three_best_are_named_and_told() {
    let mut stations = vec![
        station("sg", 0.0, 160),
        station("far", 80.0, 150),
        station("near", 5.0, 150),
        station("slow", 1.0, 260),
        station("good", 10.0, 90),
    ];
    let mesh = Mesh::plan(&stations, &Mesh::default());
    assert_eq!(forwarders(&mesh, "sg"), ["good", "near", "slow"]);
    assert_eq!(forwarded(&mesh, "good"), ["far", "near", "sg", "slow"]);
    let named = &mesh.forwarders("id-sg").unwrap().nodes[0];
    assert_eq!(named.endpoints, ["good.example:51820"]);
    assert_eq!(&named.wireguard_public_key[..], [b'g'; 32]);
    assert_eq!(&mesh.forwarded("id-good").unwrap().nodes[2].wireguard_public_key[..], [b's'; 32]);
    stations.reverse();
    assert_eq!(Mesh::plan(&stations, &Mesh::default()), mesh, "whatever their order");
}

#[test]
fn only_who_offers_it_is_named() {
    let mut stations = vec![station("sg", 0.0, 160), station("a", 1.0, 1), station("b", 2.0, 1)];
    stations[1].offers = Offer::Closed;
    stations[2].offers = Offer::Doubtful;
    let mesh = Mesh::plan(&stations, &Mesh::default());
    assert_eq!(forwarders(&mesh, "sg"), [""; 0]);
    assert_eq!(forwarders(&mesh, "a"), ["sg"], "who forwards nothing may be forwarded");
}

#[test]
fn what_is_in_use_stays_while_it_offers_anything() {
    let mut stations = vec![
        station("sg", 0.0, 160),
        station("a", 1.0, 1),
        station("b", 2.0, 1),
        station("c", 3.0, 1),
        station("used", 80.0, 200),
    ];
    stations[0].uses = Some(vec!["id-used".to_owned()]);
    stations[4].offers = Offer::Doubtful;
    let mesh = Mesh::plan(&stations, &Mesh::default());
    assert_eq!(forwarders(&mesh, "sg"), ["used", "a", "b"]);
    assert_eq!(forwarded(&mesh, "used"), ["sg"]);
    let route = mesh.routes().iter().find(|route| route.node == "sg").unwrap();
    assert_eq!((&route.via[..], route.forwarders.len()), (&["used".to_owned()][..], 3));
    stations[4].offers = Offer::Closed;
    let mesh = Mesh::plan(&stations, &mesh);
    assert_eq!(forwarders(&mesh, "sg"), ["a", "b", "c"]);
    assert_eq!(forwarded(&mesh, "used"), [""; 0]);
}

#[test]
fn nobody_sends_its_own_datagrams_on() {
    let mut stations = vec![station("sg", 0.0, 160), station("a", 1.0, 1)];
    stations[0].uses = Some(vec!["id-sg".to_owned()]);
    let mesh = Mesh::plan(&stations, &Mesh::default());
    assert_eq!(forwarders(&mesh, "sg"), ["a"], "whatever it reports");
}

/// A gateway that starts again knows nothing of what is in use.
#[test]
fn nothing_is_said_to_a_node_that_has_not_reported() {
    let mut stations = vec![station("sg", 0.0, 160), station("a", 1.0, 1)];
    stations[0].uses = None;
    let mesh = Mesh::plan(&stations, &Mesh::default());
    assert_eq!(mesh.forwarders("id-sg"), None);
    assert_eq!(forwarders(&mesh, "a"), ["sg"]);
    assert_eq!(mesh.forwarders("id-nobody"), None);

    stations[0].uses = Some(Vec::new());
    let mesh = Mesh::plan(&stations, &mesh);
    assert_eq!(forwarded(&mesh, "a"), ["sg"]);
    stations[0].uses = None;
    let mesh = Mesh::plan(&stations, &mesh);
    assert_eq!(mesh.forwarders("id-sg"), None);
    assert_eq!(forwarded(&mesh, "a"), ["sg"], "it goes on being sent on for");
}

#[test]
fn who_was_named_stays_until_another_is_clearly_better() {
    let others = ["a", "b", "c"].map(|name| station(name, 0.0, 100));
    let mut stations = vec![station("sg", 0.0, 160), station("d", 0.0, 99)];
    stations.extend(others.clone());
    let first = Mesh::plan(&[&others[..], &stations[..1]].concat(), &Mesh::default());
    assert_eq!(forwarders(&first, "sg"), ["a", "b", "c"]);
    assert_eq!(forwarders(&Mesh::plan(&stations, &first), "sg"), ["a", "b", "c"]);
    stations[1].rtt_us = Some(76_000);
    assert_eq!(forwarders(&Mesh::plan(&stations, &first), "sg"), ["a", "b", "c"]);
    stations[1].rtt_us = Some(74_000);
    assert_eq!(forwarders(&Mesh::plan(&stations, &first), "sg"), ["d", "a", "b"]);
}

#[test]
fn nobody_sends_on_for_more_than_it_may() {
    let mut stations: Vec<Station> = (0..100)
        .map(|n| Station {
            offers: Offer::Closed,
            member_id: format!("n-{n:03}"),
            ..station("node", 0.0, 100)
        })
        .collect();
    stations.push(station("hub", 0.0, 1));
    stations[99].uses = Some(vec!["id-hub".to_owned()]);
    let mesh = Mesh::plan(&stations, &Mesh::default());
    assert_eq!(forwarded(&mesh, "hub").len(), FORWARDED_MAX);
    let last = mesh.forwarders("n-099").unwrap();
    assert_eq!(last.nodes.len(), 1, "who uses it comes first");
}

#[test]
fn who_does_not_say_where_it_stands_comes_after_who_does() {
    let mut unknown = station("unknown", 0.0, 10);
    unknown.position = None;
    let mut mute = station("mute", 0.0, 10);
    mute.rtt_us = None;
    let stations =
        [station("sg", 0.0, 160), unknown, mute, station("a", 9.0, 200), station("b", 9.0, 180)];
    let mesh = Mesh::plan(&stations, &Mesh::default());
    assert_eq!(forwarders(&mesh, "sg"), ["b", "a", "mute"]);
}
