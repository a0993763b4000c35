//! Every input of the corpora, and inputs made from them by chance, goes through its target.

use std::fs;
use std::path::PathBuf;

use antipode_fuzz::TARGETS;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Changed inputs made of each input of a corpus.
const CHANGED: usize = 40;

#[test]
fn every_corpus_passes() {
    for (name, target) in TARGETS {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "fuzz/corpus/{name} is empty");
        for input in inputs {
            target(&input);
        }
    }
}

/// What fuzzers find first they find near what is there: a small walk on every change.
#[test]
fn what_is_near_the_corpora_passes() {
    let mut rng = StdRng::seed_from_u64(1);
    for (name, target) in TARGETS {
        let inputs = corpus(name);
        for input in &inputs {
            for _ in 0..CHANGED {
                let mut changed = input.clone();
                change(&mut rng, &mut changed, &inputs);
                target(&changed);
            }
        }
    }
}

#[test]
fn every_target_has_its_fuzzer() {
    let fuzzers = root().join("fuzz_targets");
    for (name, _) in TARGETS {
        assert!(fuzzers.join(format!("{name}.rs")).exists(), "fuzz/fuzz_targets/{name}.rs");
    }
    let count = fs::read_dir(fuzzers).expect("a directory").count();
    assert_eq!(count, TARGETS.len(), "a fuzzer without a target");
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = root().join("corpus").join(name);
    let mut paths: Vec<PathBuf> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("readable")).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn change(rng: &mut StdRng, input: &mut Vec<u8>, others: &[Vec<u8>]) {
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..=input.len());
        match rng.random_range(0..5) {
            0 if at < input.len() => input[at] = rng.random(),
            1 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
            2 => input.truncate(at),
            3 => input.insert(at, rng.random()),
            _ => {
                let other = &others[rng.random_range(0..others.len())];
                let from = rng.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
}
