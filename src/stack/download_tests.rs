//! Claims about downloads, without a network: `cp` and `sh` stand in for the registries' clients.

use super::*;
use crate::clock::SystemClock;

fn cache(folder: &tempfile::TempDir) -> Cache {
    Cache { folder: folder.path().to_owned(), clock: SystemClock::shared() }
}

#[test]
fn file_with_another_digest_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("part");
    fs::write(&path, "abc").expect("the folder is ours");

    assert!(verify(&path, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad").is_ok());
    fs::write(&path, "abd").expect("the folder is ours");
    let error = verify(&path, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad").expect_err("it is another file");

    assert!(error.to_string().contains("expected ba7816bf"), "{error}");
}

#[test]
fn listing_of_jars_depends_on_names_and_contents_alone() {
    let digest = |first: (&str, &str), second: (&str, &str)| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in [first, second, ("pom.xml", first.1)] {
            fs::write(folder.path().join(name), text).expect("the folder is ours");
        }
        fs::read_to_string(listing_of_jars(folder.path()).expect("sha256sum lists them")).expect("the listing was written")
    };

    assert_eq!(digest(("a.jar", "1"), ("b.jar", "2")), digest(("b.jar", "2"), ("a.jar", "1")));
    assert_ne!(digest(("a.jar", "1"), ("b.jar", "2")), digest(("a.jar", "1"), ("b.jar", "3")));
}

#[test]
fn failed_step_shows_what_the_program_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");

    let error =
        cache(&folder).run(Command::new("sh").args(["-c", "echo no such artefact >&2; exit 3"]), folder.path()).expect_err("exit 3");

    assert!(error.to_string().contains("no such artefact"), "{error}");
}

#[test]
fn part_that_is_there_is_not_fetched_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join(KAFKA.folder)).expect("the folder is ours");

    let found = cache(&folder).have(&KAFKA).expect("nothing has to be done");

    assert_eq!(found, folder.path().join(KAFKA.folder));
}

#[test]
fn pom_names_every_root() {
    let pom = pom_of(&["a.b:c:1.2", "d:e:3"]).expect("both are coordinates");

    assert!(pom.contains("<groupId>a.b</groupId><artifactId>c</artifactId><version>1.2</version>"), "{pom}");
    assert!(pom.contains("<groupId>d</groupId><artifactId>e</artifactId><version>3</version>"), "{pom}");
    assert!(pom_of(&["a:b"]).is_err());
}
