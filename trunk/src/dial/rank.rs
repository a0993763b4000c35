//! Which core a client's session begins at: rendezvous hashing (Thaler and Ravishankar, 1998).
//!
//! Each core has a rank for each client, and the highest one has it. A core that comes or goes
//! moves only its own clients, and one that is silent for a while gives its clients to their next
//! cores and gets them back.

/// The rank that a core has for a client; the same at every node and after every start.
pub(super) fn rank(client_ip: &str, core: &str) -> u64 {
    let parts = client_ip.bytes().chain([0]).chain(core.bytes());
    // FNV-1a, and the finaliser of SplitMix64: its own high bits follow the last bytes too closely.
    let hash = parts.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const CORES: [&str; 4] = ["m-01hf3a", "m-01hf3b", "m-01hf3c", "m-01hf9z"];

    #[test]
    fn clients_are_spread_evenly() {
        let mut clients = BTreeMap::<_, u32>::new();
        for client in client_ips() {
            *clients.entry(first(&client, &CORES)).or_default() += 1;
        }
        assert_eq!(clients.len(), CORES.len());
        assert!(clients.values().all(|count| (2300..2700).contains(count)), "{clients:?}");
    }

    #[test]
    fn a_core_that_goes_moves_its_own_clients_only_and_spreads_them() {
        let (gone, left) = CORES.split_last().unwrap();
        let mut inherited = BTreeMap::<_, u32>::new();
        for client in client_ips() {
            let (before, after) = (first(&client, &CORES), first(&client, left));
            match before == *gone {
                true => *inherited.entry(after).or_default() += 1,
                false => assert_eq!(before, after, "{client}"),
            }
        }
        assert!(inherited.values().all(|count| (700..970).contains(count)), "{inherited:?}");
    }

    fn first<'a>(client: &str, cores: &[&'a str]) -> &'a str {
        cores.iter().max_by_key(|core| rank(client, core)).unwrap()
    }

    fn client_ips() -> impl Iterator<Item = String> {
        (0..10_000_u32).map(|client| match client % 2 {
            0 => format!("203.0.{}.{}", client / 256, client % 256),
            _ => format!("2001:db8:{client:x}::7"),
        })
    }
}
