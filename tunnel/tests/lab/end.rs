//! One end of a flow: quinn-proto's endpoint and connection, driven by hand.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, EndpointConfig, ServerConfig, TransportConfig};
use quinn_proto::{
    Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, Event, StreamEvent, StreamId,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// Datagrams that quinn makes at once.
const SEGMENTS: usize = 10;

/// Who the servers are.
pub(crate) struct Certificate {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let made = rcgen::generate_simple_self_signed(vec!["lab".into()]).expect("a certificate");
        Self { certificate: made.cert.der().clone(), key: made.signing_key.serialize_der() }
    }

    fn server(&self) -> ServerConfig {
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        let tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key.into())
            .expect("a certificate");
        ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).expect("TLS 1.3")))
    }

    fn client(&self) -> ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        let tls =
            rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("TLS 1.3")))
    }
}

/// See the module.
pub(crate) struct End {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    /// A client's settings, until it begins.
    begins: Option<ClientConfig>,
    pub(crate) timeout: Option<Instant>,
    stream: Option<StreamId>,
    /// Payload that a server has read.
    pub(crate) arrived: u64,
    /// Why the connection has ended.
    pub(crate) lost: Option<String>,
    megabyte: Bytes,
}

impl End {
    pub(crate) fn client(
        certificate: &Certificate,
        transport: Arc<TransportConfig>,
        begins_at: Instant,
    ) -> Self {
        let mut config = certificate.client();
        config.transport_config(transport);
        let endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        Self { begins: Some(config), timeout: Some(begins_at), ..Self::new(endpoint) }
    }

    pub(crate) fn server(certificate: &Certificate, transport: Arc<TransportConfig>) -> Self {
        let mut config = certificate.server();
        config.transport_config(transport);
        let settings = Arc::new(EndpointConfig::default());
        Self::new(Endpoint::new(settings, Some(Arc::new(config)), true, None))
    }

    fn new(endpoint: Endpoint) -> Self {
        let megabyte = Bytes::from(vec![0x5a; 1_000_000]);
        Self {
            endpoint,
            connection: None,
            begins: None,
            timeout: None,
            stream: None,
            arrived: 0,
            lost: None,
            megabyte,
        }
    }

    /// Time has passed or a datagram has come; returns the datagrams to send.
    pub(crate) fn drive(
        &mut self,
        now: Instant,
        datagram: Option<&[u8]>,
        sends: bool,
    ) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        if let Some(config) = self.begins.take() {
            let there = SocketAddr::from((Ipv6Addr::LOCALHOST, 1));
            let made = self.endpoint.connect(now, config, there, "lab").expect("settings");
            self.connection = Some(made);
        }
        if let Some(datagram) = datagram {
            self.receive(now, datagram, &mut out);
        }
        let Some((handle, connection)) = &mut self.connection else { return out };
        if self.timeout.is_some_and(|timeout| timeout <= now) {
            connection.handle_timeout(now);
        }
        while let Some(event) = connection.poll() {
            if let Event::ConnectionLost { reason } = &event {
                self.lost = Some(reason.to_string());
            }
            if let Event::Stream(StreamEvent::Opened { dir }) = event {
                self.stream = connection.streams().accept(dir);
            } else if let Event::Connected = event
                && connection.side().is_client()
            {
                self.stream = connection.streams().open(Dir::Bi);
            }
        }
        if let Some(stream) = self.stream {
            if connection.side().is_client() {
                if !sends {
                    connection.close(now, 0u32.into(), Bytes::new());
                } else {
                    let megabyte = &mut [self.megabyte.clone()];
                    while connection.send_stream(stream).write_chunks(megabyte).is_ok() {
                        megabyte[0] = self.megabyte.clone();
                    }
                }
            } else {
                self.arrived += read(connection, stream);
            }
        }
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        let mut room = Vec::new();
        while let Some(transmit) = connection.poll_transmit(now, SEGMENTS, &mut room) {
            let segment = transmit.segment_size.unwrap_or(transmit.size).max(1);
            out.extend(room[..transmit.size].chunks(segment).map(<[u8]>::to_vec));
            room.clear();
        }
        self.timeout = connection.poll_timeout();
        out
    }

    fn receive(&mut self, now: Instant, datagram: &[u8], out: &mut Vec<Vec<u8>>) {
        let from = SocketAddr::from((Ipv6Addr::LOCALHOST, 1));
        let mut room = Vec::new();
        let bytes = BytesMut::from(datagram);
        match self.endpoint.handle(now, from, None, None, bytes, &mut room) {
            Some(DatagramEvent::NewConnection(incoming)) => {
                let made = self.endpoint.accept(incoming, now, &mut room, None);
                self.connection = made.ok();
            }
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut self.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::Response(transmit)) => out.push(room[..transmit.size].to_vec()),
            None => {}
        }
    }
}

fn read(connection: &mut Connection, stream: StreamId) -> u64 {
    let mut read = 0;
    let mut stream = connection.recv_stream(stream);
    let Ok(mut chunks) = stream.read(true) else { return 0 };
    while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
        read += chunk.bytes.len() as u64;
    }
    let _ = chunks.finalize();
    read
}
