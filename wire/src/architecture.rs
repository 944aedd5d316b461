//! The arrows between the crates, as docs/architecture.md draws them.

use std::path::Path;
use std::process::Command;

/// Crate folder, and what of Millrace it may use.
const ARROWS: [(&str, &[&str]); 9] = [
    ("wire", &[]),
    ("service", &["millrace-wire"]),
    ("producers", &["millrace-wire", "millrace-service"]),
    ("processor/core", &[]),
    ("processor", &["millrace-wire", "millrace-service", "millrace-core"]),
    ("backend", &["millrace-wire", "millrace-service"]),
    ("dashboard", &["millrace-wire"]),
    ("launcher", &["millrace-wire"]),
    ("tests", &["millrace-wire"]),
];
/// The engine is pure, and `wire` compiles to WASM.
const NO_IO: [&str; 2] = ["processor/core", "wire"];
const IO: [&str; 9] =
    ["tokio", "rdkafka", "reqwest", "axum", "object_store", "fjall", "elasticsearch", "sqlx", "tracing"];

/// Names in the dependency sections of a manifest, those for tests excepted.
fn dependencies(folder: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut inside = false;
    let mut names = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies") && !line.contains("dev-dependencies");
        } else if inside && let Some((name, _)) = line.split_once(['.', ' ', '=']) {
            names.push(name.to_owned());
        }
    }
    names
}

#[test]
fn dependencies_point_one_way() {
    for (folder, allowed) in ARROWS {
        for name in dependencies(folder).iter().filter(|name| name.starts_with("millrace-")) {
            assert!(allowed.contains(&name.as_str()), "{folder} must not depend on {name}");
        }
    }
}

#[test]
fn engine_and_vocabulary_do_no_io() {
    for folder in NO_IO {
        let names = dependencies(folder);
        assert!(names.contains(&"serde".to_owned()), "{folder}: the manifest was not understood");
        for name in names {
            assert!(!IO.contains(&name.as_str()), "{folder} must not depend on {name}");
        }
    }
}

/// Nor does anything that they use, on whatever way.
#[test]
fn nothing_brings_io_along() {
    for package in ["millrace-core", "millrace-wire"] {
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--locked", "--package", package, "--edges", "normal,build"])
            .args(["--prefix", "none", "--format", "{p}"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
        let text = String::from_utf8(tree.stdout).unwrap();
        let names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(names.contains(&"serde_core"), "{package}: the tree was not understood: {text}");
        for name in IO {
            assert!(!names.contains(&name), "{package} must not bring {name} along");
        }
    }
}
