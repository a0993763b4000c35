//! What every Antipode program needs: settings, secrets, telemetry, shutdown, admin endpoint, backoff, and membership of a gateway.
