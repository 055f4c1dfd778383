//! What fuzzing has found worth keeping, once more, without libFuzzer.

use std::fs;
use std::path::Path;

use kvstore_fuzz::TARGETS;

#[test]
fn what_holds_for_the_corpus_of_the_store() {
    for (name, target) in TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let entries = fs::read_dir(&directory).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "there is a corpus of {name}");
        for path in paths {
            let bytes = fs::read(&path).unwrap();
            if let Err(failure) = std::panic::catch_unwind(|| target(&bytes)) {
                eprintln!("{name} fails on {}", path.display());
                std::panic::resume_unwind(failure);
            }
        }
    }
}
