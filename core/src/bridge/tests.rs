//! Bridges between ports in memory and real servers on loopback.
