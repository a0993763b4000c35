//! The whole system: what it is made of, in the order in which it starts and stops.

mod paths;
mod programs;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use antipode_runtime::shutdown::{Failure, Shutdown};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::args::Args;
use crate::backend::{BackendUrl, UnreachableError};
use crate::certificate::Certificate;
use crate::chat::{self, Room};
use crate::check::{Course, Task};
use crate::distance::NEAR_ONE_WAY;
use crate::live::{Live, State};
use crate::page::Page;
use crate::port::{self, PortError};
use crate::probe::Way;
use crate::region::{REGIONS, Region};
use crate::say;
use crate::serve;
use crate::world::{Backend, Place, Ways, World};
use paths::{Far, Paths};
use programs::Programs;

/// Enrolment, handshakes and health take some round trips, the longest 260 ms. Far more than that
/// only on a machine that is busy with something else.
const START_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long page, chat and paths may take to end, once the programs have.
const GRACE: Duration = Duration::from_millis(200);

/// The demo can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The page's port.
    #[error(transparent)]
    Page(#[from] PortError),
    /// The user's own server.
    #[error(transparent)]
    Backend(#[from] UnreachableError),
    /// A free port, a file, a directory: something that any machine has.
    #[error("{what} can't be had: is the disk full, or are there too many open files?")]
    Machine {
        /// What was asked for.
        what: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A certificate.
    #[error("no certificate can be made")]
    Certificate(#[source] rcgen::Error),
    /// TLS refuses its settings.
    #[error("TLS can't be set up")]
    Tls(#[source] rustls::Error),
    /// One of the programs.
    #[error("the {program} doesn't start")]
    Program {
        /// Which.
        program: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The programs run, but not together.
    #[error(
        "not all regions were up after {} s: {state}; try again on a quieter machine, \
         ANTIPODE_LOG=info says more", START_PATIENCE.as_secs()
    )]
    NotUp {
        /// The regions and how they are.
        state: String,
    },
}

impl StartError {
    fn machine(what: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Machine { what, source }
    }
}

/// Everything that runs. [`System::stop`] ends it in order; its files go with it.
#[derive(Debug)]
pub struct System {
    programs: Programs,
    page: Page,
    page_address: SocketAddr,
    courses: Vec<Course>,
    /// The demo's own: page, chat, paths.
    shutdown: Shutdown,
}

/// The far end of all ways: the demo's chat, or the user's own server.
struct Target {
    /// What core and page are told.
    origin: String,
    backend: Backend,
    far: Far,
    chat: Option<(TcpListener, TcpListener)>,
}

impl System {
    /// Starts everything and waits until every region is up.
    ///
    /// # Errors
    /// Says what is in the way and how to get around it.
    pub async fn start(args: &Args) -> Result<Self, StartError> {
        let began = Instant::now();
        let shutdown = Shutdown::default();
        // A check has no page, so it can't be in anybody's way.
        let page_port = if args.check { 0 } else { args.port };
        let page_listener = port::listen(SocketAddr::new(args.listen, page_port)).await?;
        let page_address = page_listener.local_addr().map_err(StartError::machine("a port"))?;
        let certificate = Certificate::make(args.listen).map_err(StartError::Certificate)?;
        let target = Target::find(args.backend.as_ref()).await?;
        let paths = Paths::bind(args.listen).await.map_err(StartError::machine("a free port"))?;

        let programs = Programs::start(args, &target.origin, &certificate, &paths).await?;
        let places = places(&paths, target.far)?;
        let courses = courses(&places, args, &certificate)?;
        let steer_port = programs.steer_address().port();
        let world = Arc::new(World::new(target.backend, steer_port, places));
        paths.serve(&programs.ends(), target.far, &shutdown);

        let page = Page { world, live: Live::default(), room: Room::default() };
        let router = page.router(&shutdown);
        if let Some((plain, tls)) = target.chat {
            serve::plain(plain, router.clone(), &shutdown);
            let config = certificate.server().map_err(StartError::Tls)?;
            serve::tls(tls, config, router.clone(), &shutdown)
                .map_err(StartError::machine("a listener"))?;
        }
        serve::plain(page_listener, router, &shutdown);

        let system = Self { programs, page, page_address, courses, shutdown };
        system.all_up().await?;
        let took = began.elapsed().as_secs_f64();
        say::progress(&format!("  all regions are up after {took:.1} s"));
        Ok(system)
    }

    /// What the page is told.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.page.world
    }

    /// Where the page is.
    #[must_use]
    pub fn page(&self) -> SocketAddr {
        self.page_address
    }

    /// What a check has to go through.
    #[must_use]
    pub fn courses(&self) -> Vec<Course> {
        self.courses.clone()
    }

    /// Takes over what the gateway knows of the nodes.
    pub fn look(&self) {
        self.page.live.set(State::of(&self.programs.members()));
    }

    /// Resolves when something failed that the demo can't do without.
    pub async fn failed(&self) -> Failure {
        tokio::select! {
            failure = self.programs.failed() => failure,
            failure = self.shutdown.failed() => failure,
        }
    }

    /// Stops the programs from the outside in, then everything else.
    pub async fn stop(self) {
        self.programs.stop().await;
        self.shutdown.finish(GRACE).await;
    }

    async fn all_up(&self) -> Result<(), StartError> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            self.look();
            let state = self.page.live.now();
            if state.all_up(REGIONS.iter().map(|region| region.name)) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let state = format!("{:?}", state.regions);
                return Err(StartError::NotUp { state });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Target {
    async fn find(backend: Option<&BackendUrl>) -> Result<Self, StartError> {
        if let Some(url) = backend {
            let address = url.reach().await?;
            let backend = Backend::Yours { url: url.to_string(), path: url.path().to_owned() };
            let far = if url.tls {
                Far { plain: None, tls: Some(address) }
            } else {
                Far { plain: Some(address), tls: None }
            };
            return Ok(Self { origin: url.origin(), backend, far, chat: None });
        }
        let plain = listener().await?;
        let tls = listener().await?;
        let address = |listener: &TcpListener| {
            listener.local_addr().map_err(StartError::machine("a free port"))
        };
        let far = Far { plain: Some(address(&plain)?), tls: Some(address(&tls)?) };
        let origin = format!("http://{}", address(&plain)?);
        let backend = Backend::Chat { path: chat::PATH };
        Ok(Self { origin, backend, far, chat: Some((plain, tls)) })
    }
}

async fn listener() -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    bound.map_err(StartError::machine("a free port"))
}

fn places(paths: &Paths, far: Far) -> Result<Vec<Place>, StartError> {
    let place = |(region, ports): (&Region, &paths::Ports)| {
        let direct = Ways {
            port: far.plain.map(|_| ports.direct.port()),
            tls_port: far.tls.map(|_| ports.direct_tls.port()),
        };
        Place::new(region, Ways::both(ports.relay, ports.relay_tls), direct)
    };
    let ports = paths.ports().map_err(StartError::machine("a free port"))?;
    Ok(REGIONS.iter().zip(&ports).map(place).collect())
}

/// Always with TLS through the relay; directly as the far end speaks.
fn courses(
    places: &[Place],
    args: &Args,
    certificate: &Certificate,
) -> Result<Vec<Course>, StartError> {
    let client = certificate.client().map_err(StartError::Tls)?;
    let yours = args.backend.as_ref();
    let path = yours.map_or(chat::PATH, BackendUrl::path).to_owned();
    let name = yours.map(BackendUrl::authority);
    let at = |port: Option<u16>| SocketAddr::new(args.listen, port.unwrap_or_default());
    let course = |(region, place): (&Region, &Place)| {
        let relay = Way {
            address: at(place.relay.tls_port),
            tls: Some(Arc::clone(&client)),
            name: None,
            path: path.clone(),
        };
        let trusted = match yours {
            None => Some(Arc::clone(&client)),
            Some(url) if url.tls => Some(crate::certificate::public_client()?),
            Some(_) => None,
        };
        let direct = Way {
            address: at(place.direct.tls_port.or(place.direct.port)),
            tls: trusted,
            name: name.clone(),
            path: path.clone(),
        };
        let task = if yours.is_some() { Task::Open } else { Task::Chat };
        let round_trip = (region.route().one_way() + NEAR_ONE_WAY) * 2;
        Ok(Course { region: region.name, city: region.city.name, relay, direct, round_trip, task })
    };
    REGIONS.iter().zip(places).map(course).collect::<Result<_, _>>().map_err(StartError::Tls)
}
