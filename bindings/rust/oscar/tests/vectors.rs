//! The golden vectors: tests/vectors/README.md of the repository has the format. This file is not part of the package.

mod vector_player;

use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/vectors")
}

fn names() -> Vec<String> {
    let index = folder().join("index");
    let text = fs::read_to_string(&index).unwrap_or_else(|error| {
        panic!("{}: {error}. The golden vectors are in liboscar's repository only.", index.display())
    });
    text.split_whitespace().map(str::to_string).collect()
}

// One test: a directive changes the environment, which is the process's.
#[test]
fn results_and_statuses_are_the_oracles() {
    let names = names();
    assert!(!names.is_empty(), "the index names no files");
    for name in &names {
        let text = fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let n_results = vector_player::replay(&text).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        println!("{name}: {n_results} lines of results agree");
    }

    let text = fs::read_to_string(folder().join("errors.txt")).unwrap();
    for (what, broken) in [
        ("empty", String::new()),
        ("cut off", text.strip_suffix("done\n").unwrap().to_string()),
        ("without results", "oscar-vectors 1\ndone\n".to_string()),
        ("another status", text.replace("OSCAR_E_STATE -5", "OSCAR_E_STATE -50")),
        ("a failure unseen", text.replace("fails OSCAR_E_NOT_FOUND -4\nlength 2", "length 2")),
        ("another length", text.replace("length 1 3", "length 1 4")),
    ] {
        assert!(broken != text && vector_player::replay(&broken).is_err(), "{what}: nobody sees it");
    }
}
