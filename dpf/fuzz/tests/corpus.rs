//! What fuzzing has found worth keeping, once more, without libFuzzer.

use std::fs;
use std::path::{Path, PathBuf};

use dpf_fuzz::{TARGETS, Target};

/// Every file of a target below `place`, in order.
fn inputs(place: &str, target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(place).join(target);
    let entries = fs::read_dir(&directory).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn replay(name: &str) {
    let (_, target): (_, Target) = TARGETS.into_iter().find(|(other, _)| *other == name).unwrap();
    let inputs = [inputs("corpus", name), inputs("regressions", name)].concat();
    assert!(!inputs.is_empty(), "there is a corpus");
    for path in inputs {
        let bytes = fs::read(&path).unwrap();
        if let Err(failure) = std::panic::catch_unwind(|| target(&bytes)) {
            eprintln!("replay with: cargo exo filter fuzz {name} --replay {}", path.display());
            std::panic::resume_unwind(failure);
        }
    }
}

#[test]
fn wire() {
    replay("wire");
}

#[test]
fn history() {
    replay("history");
}

#[test]
fn text() {
    replay("text");
}
