//! A new certificate before the old one ends.

use std::time::Duration;

use antipode_proto::registry::v1::RenewRequest;
use antipode_proto::registry::v1::registry_client::RegistryClient;
use tracing::{info, warn};

use super::dial::{ALPN, dial};
use super::enrol::within;
use super::error::{JoinError, rfc3339};
use super::identity::{Identity, Validity};
use super::{Timings, tls};
use crate::backoff::{Backoff, Bounds};
use crate::clock;
use crate::shutdown::Shutdown;
use crate::telemetry::chain;

/// The wall clock is looked at this often, since it may be set, and machines may sleep.
const LOOK_PERIOD: Duration = Duration::from_secs(60);
/// Between attempts that fail: there is a third of the certificate's life left to succeed in.
const RETRY: Bounds = Bounds { first: Duration::from_secs(10), max: Duration::from_secs(1800) };

/// Renews the certificate of `identity` until the program ends.
pub(super) fn start(identity: Identity, timings: Timings, shutdown: &Shutdown) {
    shutdown.spawn_service(async move {
        loop {
            wait_until_due(&identity).await;
            let mut backoff = Backoff::new(RETRY);
            while let Err(error) = renew(&identity, timings).await {
                let ends = rfc3339(identity.validity().ends_unix_seconds);
                warn!(error = chain(&error), ends, "certificate can't be renewed yet");
                let delay = backoff.next_delay(&mut rand::rng());
                tokio::time::sleep(delay).await;
            }
            let ends = rfc3339(identity.validity().ends_unix_seconds);
            info!(ends, "certificate renewed");
            // A gateway that issues certificates of no length must not be asked in a loop.
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    });
}

async fn wait_until_due(identity: &Identity) {
    loop {
        let due = due_unix_seconds(identity.validity());
        let Some(left) = due.checked_sub(clock::unix_now().as_secs()).filter(|left| *left > 0)
        else {
            return;
        };
        tokio::time::sleep(Duration::from_secs(left).min(LOOK_PERIOD)).await;
    }
}

async fn renew(identity: &Identity, timings: Timings) -> Result<(), JoinError> {
    let gateway = identity.gateway();
    let channel = dial(gateway, tls::client_config_for(identity, ALPN), timings.dial).await?;
    let certificate_request = identity.certificate_request()?.into();
    let mut client = RegistryClient::new(channel);
    let renewal = client.renew(RenewRequest { certificate_request });
    let answer = within(timings.answer, renewal).await.map_err(|status| JoinError::Call {
        gateway: gateway.to_owned(),
        source: Box::new(status),
    })?;
    identity.replace_certificate(answer.into_inner().certificate.to_vec())
}

/// Two thirds into the certificate's life.
const fn due_unix_seconds(validity: Validity) -> u64 {
    let Validity { begins_unix_seconds: begins, ends_unix_seconds: ends } = validity;
    begins + ends.saturating_sub(begins) / 3 * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_due_after_two_thirds() {
        let due = |begins_unix_seconds, ends_unix_seconds| {
            due_unix_seconds(Validity { begins_unix_seconds, ends_unix_seconds })
        };
        assert_eq!(due(1_000, 1_300), 1_200);
        assert_eq!(due(1_000, 1_000), 1_000);
        assert_eq!(due(1_000, 500), 1_000, "a certificate that ends before it begins");
    }
}
