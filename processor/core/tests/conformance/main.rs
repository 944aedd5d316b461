//! Runs the conformance cases of the folders given as arguments (default: `cases/` and `cases/millrace/` of this crate), each twice: as it is,
//! and with a snapshot and restore after every step. The format is in `cases/FORMAT.md`. A case of a kind that is not known
//! fails.
// All of this is test code: a case that is not well-formed may panic.
#![allow(clippy::print_stdout, clippy::indexing_slicing, clippy::unwrap_used)]

mod case;
mod cep;
mod join;
mod process;
mod watermark;
mod window;

use std::path::PathBuf;
use std::process::ExitCode;

use case::{Case, File};

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os()
        .skip(1)
        .filter(|a| !a.to_string_lossy().starts_with('-'))
        .map(PathBuf::from)
        .collect();
    let given =
        std::env::var_os("MILLRACE_CASES").map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>());
    let cases = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("cases");
    let own = cases.join("millrace");
    let folders = if arguments.is_empty() { given.unwrap_or_else(|| vec![cases, own]) } else { arguments };
    let (mut passed, mut failed) = (0, 0);
    let mut names = std::collections::HashSet::new();
    for folder in folders {
        for case in read(&folder) {
            let case = match case {
                Ok(case) => case,
                Err(text) => {
                    failed += 1;
                    println!("FAILED {text}");
                    continue;
                }
            };
            if !names.insert(case.name.clone()) {
                continue; // the same case in two folders
            }
            for restore in [false, true] {
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
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read(folder: &std::path::Path) -> Vec<Result<Case, String>> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return vec![Err(format!("{} can't be read", folder.display()))];
    };
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    let mut cases = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).map_err(|e| e.to_string());
        match text.and_then(|text| serde_yaml_ng::from_str::<File>(&text).map_err(|e| e.to_string())) {
            Ok(file) if file.format == 1 => cases.extend(file.cases.into_iter().map(Ok)),
            Ok(file) => cases.push(Err(format!("{}: format {} is not known", path.display(), file.format))),
            Err(error) => cases.push(Err(format!("{}: {error}", path.display()))),
        }
    }
    cases
}

fn run(case: &Case, restore: bool) -> Result<(), String> {
    match case.subject.as_str() {
        "join" => join::run(case, restore),
        "process" => process::run(case, restore),
        "cep" => cep::run(case, restore),
        "watermark" => watermark::run(case, restore),
        "window" => window::run(case, restore),
        other => Err(format!("no subject {other}")),
    }
}
