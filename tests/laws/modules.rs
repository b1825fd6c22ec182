//! Whatever bytes the loader gets, it ends in a module or in an error that says something, and never in
//! a panic.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use retell::wasm::{Engine, Module};

use crate::engine;

const MUTATIONS: u64 = 1_200;
/// Where types, imports and exports stand. What is changed before that is code, and takes compiling.
const TAIL_BYTES: usize = 4_000;

#[test]
fn mutated_modules_are_refused_or_loaded() {
    let cache = tempfile::tempdir().expect("a temporary folder");
    let engine = Engine::new(cache.path()).expect("wasmtime runs here");
    let whole = engine::bytes("brittle");
    let (mut refused, mut loaded) = (0, 0);
    for number in 0..MUTATIONS {
        let mut random = StdRng::seed_from_u64(number);
        let mut module = whole.clone();
        let tail = module.len().saturating_sub(TAIL_BYTES);
        let from = if number % 20 == 0 { 0 } else { tail };
        match number % 4 {
            // Bytes that are others.
            0..=2 => {
                for _ in 0..random.random_range(1..=4) {
                    let at = random.random_range(from..module.len());
                    module[at] = random.random();
                }
            }
            // Bytes that are gone, or there twice.
            _ => {
                let at = random.random_range(from..module.len());
                let end = module.len().min(at + random.random_range(1..64));
                let piece: Vec<u8> = module[at..end].to_vec();
                if random.random() {
                    module.drain(at..end);
                } else {
                    module.splice(at..at, piece);
                }
            }
        }
        match Module::load(&engine, &module) {
            Ok(_) => loaded += 1,
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty(), "mutation {number}");
                assert!(!error.hint().is_empty(), "mutation {number}");
            }
        }
    }
    assert!(refused > MUTATIONS / 4, "only {refused} were refused");
    assert!(loaded > 0, "nothing came through, so nothing was compiled");
}

#[test]
fn a_module_is_shared_as_long_as_somebody_uses_it() {
    let cache = tempfile::tempdir().expect("a folder");
    let engine = Engine::new(cache.path()).expect("wasmtime runs here");
    let module = Module::load(&engine, &engine::bytes("articles_v1")).expect("loads");
    let digest = module.digest().to_owned();
    let again = Module::in_use(&engine, &digest).expect("is in use");
    assert_eq!(again.name(), module.name());
    assert!(Module::in_use(&engine, &"0".repeat(64)).is_none());
    drop(module);
    assert!(Module::in_use(&engine, &digest).is_some());
    drop(again);
    assert!(Module::in_use(&engine, &digest).is_none());
}
