//! The rules of the house that a compiler does not hold: layers, file sizes, where `unsafe` may stand, what no file may say.

use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).expect("a readable folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files_below(&path, ending, found);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files_below(&root().join("src"), ".rs", &mut found);
    found
        .into_iter()
        .map(|path| (path.strip_prefix(root()).expect("below the root").to_owned(), fs::read_to_string(&path).expect("text")))
        .collect()
}

/// Top-level modules in the order of `lib.rs`, which is the order of the layers.
fn layers() -> Vec<String> {
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs");
    lib.lines().filter_map(|line| Some(line.strip_prefix("pub mod ")?.trim_end_matches(';').to_owned())).collect()
}

fn layer_of(path: &Path) -> Option<String> {
    let mut parts = path.components().skip(1).map(|part| part.as_os_str().to_string_lossy().into_owned());
    let first = parts.next()?;
    let name = first.trim_end_matches(".rs").to_owned();
    (name != "lib" && name != "main").then_some(name)
}

#[test]
fn a_module_imports_only_what_stands_above_it() {
    let layers = layers();
    let rank = |name: &str| layers.iter().position(|layer| layer == name);
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(own) = layer_of(&path) else { continue };
        let own_rank = rank(&own).unwrap_or_else(|| panic!("{} belongs to no layer of lib.rs", path.display()));
        for (number, line) in text.lines().enumerate() {
            // Links in documentation may point anywhere.
            if line.trim_start().starts_with("//") {
                continue;
            }
            for used in line.split("crate::").skip(1) {
                let name: String = used.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect();
                if rank(&name).is_some_and(|used_rank| used_rank > own_rank) {
                    wrong.push(format!("{}:{}: {own} uses {name}, which stands below it", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|(path, text)| !text.starts_with("//!") && !path.to_string_lossy().ends_with("tests.rs"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "no `//!` in {silent:?}");
}

#[test]
fn no_file_holds_two_ideas() {
    let mut files = Vec::new();
    files_below(&root().join("src"), ".rs", &mut files);
    files_below(&root().join("tests"), ".rs", &mut files);
    let long: Vec<String> = files
        .into_iter()
        .map(|path| (fs::read_to_string(&path).expect("text").lines().count(), path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, path)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn unsafe_stands_in_two_places() {
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|(path, text)| {
            let may = ["kafka/ffi.rs", "kafka/ffi/questions.rs", "cli/memory.rs"].iter().any(|place| path.ends_with(place));
            !may && text.lines().any(|line| line.contains("unsafe ") && !line.trim_start().starts_with("//"))
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(wrong.is_empty(), "unsafe in {wrong:?}");
}

#[test]
fn nothing_is_left_unfinished() {
    let words = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME"), concat!("TO", "DO"), concat!("dbg", "!(")];
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{}:{}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn what_the_image_copies_is_not_kept_from_it() {
    let read = |name: &str| fs::read_to_string(root().join("docker").join(name)).expect("text");
    let (recipe, kept_out) = (read("Dockerfile"), read("Dockerfile.dockerignore"));
    let let_in: Vec<&str> = kept_out.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let copies = recipe.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|copy| !copy.starts_with("--from"));
    let sources: Vec<&str> = copies.flat_map(|copy| copy.rsplit_once(' ').expect("from and to").0.split(' ')).collect();
    assert!(sources.len() > 3, "{sources:?}");
    let missing: Vec<&&str> = sources.iter().filter(|source| !let_in.contains(source) || !root().join(source).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
