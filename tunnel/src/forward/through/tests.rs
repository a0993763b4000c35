//! A node with forwarders: its ways, and what they bring back.

use super::*;
use crate::key::PrivateKey;

const MESSAGE: &[u8] = &[4, 0, 0, 0, 1, 2, 3];

/// A node with forwarders.
struct Lab {
    own: PrivateKey,
    throughs: Throughs,
    now: Instant,
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Lab {
    fn new() -> Self {
        let own = PrivateKey::generate();
        let throughs = Throughs::new(&own.public_key(), Metrics::default());
        Self { own, throughs, now: crate::tunnel::now() }
    }

    fn name(&mut self, forwarders: &[(&PrivateKey, &[u16])]) {
        let forwarders = forwarders.iter().map(|(private, ports)| {
            let public_key = private.public_key();
            let addresses = ports.iter().map(|port| address(*port)).collect();
            let key = PathKey::new(&self.own, &public_key).unwrap();
            (ForwarderConfig { public_key, addresses }, key)
        });
        self.throughs.set_forwarders(forwarders.collect(), 100, self.now);
    }

    /// What `forwarder` brings back from `core`.
    fn returned(&self, forwarder: &PrivateKey, core: &PublicKey, counter: u64) -> Vec<u8> {
        let key = PathKey::new(forwarder, &self.own.public_key()).unwrap();
        let (sender, core) = (KeyId::of(&forwarder.public_key()), KeyId::of(core));
        let mut out = Vec::new();
        wrap(Header { kind: Kind::Returned, sender, counter, core }, &key, MESSAGE, &mut out);
        out
    }

    fn unwrap(&self, port: u16, datagram: &[u8]) -> Result<ThroughId, DropReason> {
        let wrapped = Wrapped::read(datagram).unwrap();
        let (id, payload) = self.throughs.unwrap(address(port).into(), &wrapped, self.now)?;
        assert_eq!(payload, MESSAGE);
        Ok(id)
    }

    fn address_of(&self, forwarder: &PrivateKey) -> Option<SocketAddr> {
        let id = KeyId::of(&forwarder.public_key());
        self.throughs.neighbours[&id].contact.lock().address()
    }
}

#[test]
fn a_way_for_each_forwarder_and_core_that_keeps_its_number() {
    let mut lab = Lab::new();
    let [jp, hk, core] = [(); 3].map(|()| PrivateKey::generate());
    let (eu, us) = (core.public_key(), PrivateKey::generate().public_key());
    lab.name(&[(&jp, &[1]), (&hk, &[2])]);
    assert!(lab.throughs.set_cores(&[eu, us]));
    assert!(!lab.throughs.set_cores(&[us, eu]));
    assert_eq!(lab.throughs.outlets().len(), 4);
    let ways = lab.throughs.to(&eu);
    assert_eq!(ways.len(), 2);
    assert_eq!(lab.throughs.to(&jp.public_key()), []);

    lab.name(&[(&hk, &[2])]);
    assert!(lab.throughs.set_cores(&[eu, us]));
    let kept = lab.throughs.to(&eu);
    assert_eq!(lab.throughs.forwarder(kept[0]), Some(hk.public_key()));
    assert!(kept.len() == 1 && ways.contains(&kept[0]));

    lab.name(&[(&jp, &[1]), (&hk, &[2])]);
    assert!(lab.throughs.set_cores(&[eu]));
    assert!(lab.throughs.to(&us).is_empty());
    let again = lab.throughs.to(&eu);
    assert!(again.contains(&kept[0]));
    assert!(again.iter().filter(|way| ways.contains(way)).count() == 1, "{ways:?} {again:?}");
}

#[test]
fn what_a_forwarder_brings_back_tells_which_way_it_came() {
    let mut lab = Lab::new();
    let [jp, hk, core] = [(); 3].map(|()| PrivateKey::generate());
    let eu = core.public_key();
    lab.name(&[(&jp, &[1]), (&hk, &[2])]);
    lab.throughs.set_cores(&[eu]);
    let datagram = lab.returned(&jp, &eu, 77);
    let id = lab.unwrap(1, &datagram).unwrap();
    assert_eq!(lab.throughs.forwarder(id), Some(jp.public_key()));
    assert_eq!(lab.unwrap(1, &datagram), Err(DropReason::Duplicate));

    let mut forged = lab.returned(&jp, &eu, 78);
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(lab.unwrap(1, &forged), Err(DropReason::NotAuthentic));
    let stranger = lab.returned(&PrivateKey::generate(), &eu, 79);
    assert_eq!(lab.unwrap(1, &stranger), Err(DropReason::NoWay));
    let elsewhere = lab.returned(&jp, &hk.public_key(), 80);
    assert_eq!(lab.unwrap(1, &elsewhere), Err(DropReason::NoWay));
}

#[test]
fn a_silent_forwarder_is_tried_at_its_next_address() {
    let mut lab = Lab::new();
    let [jp, core] = [(); 2].map(|()| PrivateKey::generate());
    let eu = core.public_key();
    lab.name(&[(&jp, &[1, 2, 3])]);
    lab.throughs.set_cores(&[eu]);
    assert_eq!(lab.address_of(&jp), Some(address(1)));
    lab.now += SILENCE_MAX - Duration::from_millis(1);
    lab.throughs.tick(lab.now);
    assert_eq!(lab.address_of(&jp), Some(address(1)));
    lab.now += Duration::from_millis(1);
    lab.throughs.tick(lab.now);
    assert_eq!(lab.address_of(&jp), Some(address(2)));
    lab.unwrap(2, &lab.returned(&jp, &eu, 1)).unwrap();
    lab.now += SILENCE_MAX - Duration::from_millis(1);
    lab.throughs.tick(lab.now);
    assert_eq!(lab.address_of(&jp), Some(address(2)), "it was heard");
    lab.unwrap(3, &lab.returned(&jp, &eu, 2)).unwrap();
    assert_eq!(lab.address_of(&jp), Some(address(3)), "it answers from there");
    lab.unwrap(9, &lab.returned(&jp, &eu, 3)).unwrap();
    assert_eq!(lab.address_of(&jp), Some(address(3)), "only where the gateway says it is");

    lab.name(&[(&jp, &[4, 3])]);
    assert_eq!(lab.address_of(&jp), Some(address(3)), "what works stays");
    lab.name(&[(&jp, &[5])]);
    assert_eq!(lab.address_of(&jp), Some(address(5)));
    lab.name(&[(&jp, &[])]);
    assert_eq!(lab.address_of(&jp), None);
}

#[test]
fn forwarders_are_limited() {
    let mut lab = Lab::new();
    let many: Vec<_> = (0..=FORWARDERS_MAX).map(|_| PrivateKey::generate()).collect();
    let named: Vec<(&PrivateKey, &[u16])> = many.iter().map(|key| (key, &[1][..])).collect();
    lab.name(&named);
    lab.throughs.set_cores(&[PrivateKey::generate().public_key()]);
    assert_eq!(lab.throughs.outlets().len(), FORWARDERS_MAX);
}

/// A run is sent on wrapped, each datagram with a counter of its own, in runs that fit one packet.
#[tokio::test]
async fn a_run_leaves_wrapped() {
    let mut lab = Lab::new();
    let [jp, core] = [(); 2].map(|()| PrivateKey::generate());
    let receiver = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    lab.name(&[(&jp, &[receiver.local_addr().unwrap().port()])]);
    lab.throughs.set_cores(&[core.public_key()]);
    let udp = OuterSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let outlets = lab.throughs.outlets();
    let exit = outlets.values().next().unwrap();
    // 46 datagrams of 1,452 bytes and a short one: beyond 64 KiB only when wrapped.
    let segment = 1452;
    let mut run = vec![4u8; segment * 45 + 60];
    run.chunks_mut(segment).zip(0..).for_each(|(datagram, n)| datagram[1] = n);
    udp.writable().await.unwrap();
    exit.send(&udp, &run, segment).unwrap();

    let key = PathKey::new(&jp, &lab.own.public_key()).unwrap();
    let mut bytes = [0; 2048];
    for n in 0..46u8 {
        let len = receiver.recv(&mut bytes).await.unwrap();
        let read = Wrapped::read(&bytes[..len]).unwrap();
        assert!(read.is_authentic(&key));
        assert_eq!(read.header.counter, 100 + u64::from(n));
        assert_eq!(read.header.core, KeyId::of(&core.public_key()));
        assert_eq!((read.payload()[0], read.payload()[1]), (4, n));
        assert_eq!(read.payload().len(), if n == 45 { 60 } else { segment });
    }
}
