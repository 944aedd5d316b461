//! Runs the conformance cases of the folders given as arguments, and of the folders in them (default: `cases/` of this
//! crate), each twice: as it is, and with a snapshot and restore after every step. The format is in `cases/FORMAT.md`.
//! What is not known to it fails, and so does a case that two files tell differently.
// All of this is test code: a case that is not well-formed may panic.
#![allow(clippy::print_stdout, clippy::indexing_slicing, clippy::unwrap_used)]

mod case;
mod cep;
mod join;
mod predicate;
mod process;
mod watermark;
mod window;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use case::{Case, File, Subject};
use serde_json::Value;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os()
        .skip(1)
        .filter(|a| !a.to_string_lossy().starts_with('-'))
        .map(PathBuf::from)
        .collect();
    let given =
        std::env::var_os("MILLRACE_CASES").map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>());
    let own = || vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("cases")];
    let own_cases = arguments.is_empty() && given.is_none();
    let folders = if arguments.is_empty() { given.unwrap_or_else(own) } else { arguments };
    let (mut passed, mut failed, mut once) = (0, 0, 0);
    for case in read(&folders) {
        let case = match case {
            Ok(case) => case,
            Err(text) => {
                failed += 1;
                println!("FAILED {text}");
                continue;
            }
        };
        for restore in [false, true] {
            if restore && !keeps_state(&case) {
                once += 1;
                continue;
            }
            let suffix = if restore { " (restored after every step)" } else { "" };
            match run(&case, restore) {
                Ok(()) => passed += 1,
                Err(text) => {
                    failed += 1;
                    println!("FAILED {}{suffix}: {text}", case.name);
                }
            }
        }
    }
    // The runner's own test is none of somebody else's cases.
    let refused = if own_cases { must_be_refused() } else { Vec::new() };
    for (name, passes) in refused {
        if passes {
            failed += 1;
            println!("FAILED {name}: it should have been refused");
        } else {
            passed += 1;
        }
    }
    if once > 0 {
        println!("{once} cases have no state that could be restored: run once");
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The runner's own test: the entries of `refused/`, none of which may pass, and whether they do.
fn must_be_refused() -> Vec<(String, bool)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/refused");
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let passes = |path: &PathBuf| {
        let cases = read(std::slice::from_ref(path));
        let all = cases.iter().all(|case| case.as_ref().is_ok_and(|case| run(case, false).is_ok()));
        all || cases.is_empty()
    };
    entries.iter().map(|path| (path.display().to_string(), passes(path))).collect()
}

/// The cases of all files. One that is told twice comes once, if both tell the same. A folder or a file without any is an error.
fn read(folders: &[PathBuf]) -> Vec<Result<Case, String>> {
    let (mut files, mut cases) = (Vec::new(), Vec::new());
    for folder in folders {
        let before = files.len();
        if let Err(error) = find(folder, &mut files) {
            cases.push(Err(format!("{}: {error}", folder.display())));
        } else if files.len() == before {
            cases.push(Err(format!("{}: no file with cases (.yaml, .yml) is in it", folder.display())));
        }
    }
    let mut known: HashMap<String, (Value, PathBuf)> = HashMap::new();
    for path in files {
        let text = std::fs::read_to_string(&path).map_err(|e| e.to_string());
        let file = text.and_then(|text| serde_yaml_ng::from_str::<File>(&text).map_err(|e| e.to_string()));
        let file = match file {
            Ok(file) if file.format == 1 => file,
            Ok(file) => {
                cases.push(Err(format!("{}: format {} is not known", path.display(), file.format)));
                continue;
            }
            Err(error) => {
                cases.push(Err(format!("{}: {error}", path.display())));
                continue;
            }
        };
        if file.cases.is_empty() {
            cases.push(Err(format!("{}: no case is in it", path.display())));
        }
        for case in file.cases {
            let name = case["name"].as_str().unwrap_or_default().to_owned();
            match known.get(&name) {
                Some((first, _)) if same_but_for_source(first, &case) => {}
                Some((_, first)) => {
                    let (first, path) = (first.display(), path.display());
                    cases.push(Err(format!("{name}: {first} and {path} tell it differently")));
                }
                None => {
                    let read = case::read::<Case>(&case).and_then(|case| case.check().map(|()| case));
                    cases.push(read.map_err(|error| format!("{name} of {}: {error}", path.display())));
                    known.insert(name, (case, path.clone()));
                }
            }
        }
    }
    cases
}

fn same_but_for_source(a: &Value, b: &Value) -> bool {
    let bare = |case: &Value| {
        let mut fields = case.as_object().cloned().unwrap_or_default();
        fields.remove("source");
        fields
    };
    bare(a) == bare(b)
}

/// The file, or all `.yaml` and `.yml` files below the folder, by name.
fn find(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
    let mut entries = entries.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort();
    for entry in entries {
        if entry.is_dir() || entry.extension().is_some_and(|it| it == "yaml" || it == "yml") {
            find(&entry, files)?;
        }
    }
    Ok(())
}

/// Whether there is something to restore. What is refused has no state, and neither have some merges of watermarks.
fn keeps_state(case: &Case) -> bool {
    case.error.is_none() && (case.subject != Subject::Watermark || watermark::keeps_state(case))
}

fn run(case: &Case, restore: bool) -> Result<(), String> {
    match case.subject {
        Subject::Join => join::run(case, restore),
        Subject::Process => process::run(case, restore),
        Subject::Cep => cep::run(case, restore),
        Subject::Watermark => watermark::run(case, restore),
        Subject::Window => window::run(case, restore),
    }
}
