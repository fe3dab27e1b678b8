//! TLS, passwords and rights: the settings that docs/operations.md shows, against servers that ask for them.

use libtest_mimic::Failed;
use testudo::emulator::Wrong;
use testudo::stack::Stack;
use testudo::stack::secured::{Certificates, PASSWORD, USER};

use crate::Test;
use crate::job::{Job, READING, wait_for};

pub const TESTS: &[Test] = &[
    ("secured_servers_are_used_with_the_rights_of_the_table_alone", works),
    ("secured_servers_that_refuse_are_named_and_no_secret_is_told", refusals),
];

const ACLS: &str = "org.apache.kafka.tools.AclCommand";

/// Has all later processes of the tenant come in by TLS, as the page on operation shows it.
fn secure(job: &Job<'_>, password: &str) -> Result<(), Failed> {
    let servers = job.stack.secured();
    std::fs::write(job.path("kafka-password"), format!("{password}\n"))?;
    std::fs::write(job.path("mongo-uri"), format!("{}\n", servers.mongo_uri.replace(PASSWORD, password)))?;
    let authority = servers.authority.display();
    let config = format!(
        "instance = \"one\"\ntenants = [\"{tenant}\"]\n[kafka]\nbootstrap = \"{bootstrap}\"\n[kafka.properties]\n\
         \"security.protocol\" = \"SASL_SSL\"\n\"ssl.ca.location\" = \"{authority}\"\n\"sasl.mechanism\" = \"SCRAM-SHA-512\"\n\
         \"sasl.username\" = \"{USER}\"\n\"sasl.password_file\" = \"{secret}\"\n[kafka.consumer]\n\"session.timeout.ms\" = \"6000\"\n\
         [registry]\nurl = \"{registry}\"\nca_file = \"{authority}\"\n[mongo]\nuri_file = \"{mongo}\"\n\
         [store]\ndir = \"{state}\"\n[http]\nbind = \"127.0.0.1:0\"\n",
        tenant = job.path("tenants/tenant.toml").display(),
        bootstrap = servers.bootstrap,
        secret = job.path("kafka-password").display(),
        registry = servers.registry_url,
        mongo = job.path("mongo-uri").display(),
        state = job.path("state").display(),
    );
    Ok(std::fs::write(job.path("testudo.toml"), config)?)
}

/// Grants what the table of docs/operations.md names for `run`, `check` and `audit`, and nothing else.
fn grant(job: &Job<'_>) -> Result<(), Failed> {
    let principal = format!("User:{USER}");
    let topic = |short: &str| job.topic(short);
    let prefix = format!("{}-", job.name);
    let changelog = topic(&format!("zoo_analytics-{}-changelog", topic("in")));
    let written = ["alert", "analytics", "dead-letters", "ledger", "schemas", "events"].map(topic);
    let mut outputs = vec!["--operation", "Write", "--operation", "Create", "--topic", &changelog];
    outputs.extend(written.iter().flat_map(|name| ["--topic", name]));
    let (input, generation, sinks) = (topic("in"), topic("generation"), topic("mongo-"));
    let mut reads = vec!["--operation", "Read", "--topic", &input, "--topic", &generation, "--topic", &changelog, "--group", &job.name];
    reads.extend(written.iter().flat_map(|name| ["--topic", name]));
    let grants: [&[&str]; 5] = [
        &reads,
        &outputs,
        &["--operation", "Write", "--transactional-id", &prefix, "--resource-pattern-type", "prefixed"],
        &["--operation", "Read", "--group", &sinks, "--resource-pattern-type", "prefixed"],
        &["--operation", "Describe", "--group", "testudo-restore", "--group", "testudo-bounds"],
    ];
    std::thread::scope(|scope| {
        let threads = grants.map(|grant| {
            let arguments = [&["--add", "--force", "--allow-principal", &principal][..], grant].concat();
            scope.spawn(move || job.stack.kafka_tool(ACLS, &arguments))
        });
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(())
}

/// What `check --connect` says, and its exit code, once no server is too slow for it: the first TLS handshakes of a Java server are.
fn check(job: &Job<'_>) -> Result<(Option<i32>, String), Failed> {
    let mut found = (None, String::new());
    wait_for("servers that answer in time", || {
        let output = job.command(&["check", "--connect"]).output()?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        found = (output.status.code(), text);
        Ok(!found.1.contains("timed out"))
    })?;
    match found.1.contains(PASSWORD) {
        true => Err(format!("a secret was told:\n{}", found.1).into()),
        false => Ok(found),
    }
}

fn works(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    let report = job.emulate(schema, 1, 5_000, None, &[(Wrong::Truncated, 0.01)])?;
    secure(&job, PASSWORD)?;
    grant(&job)?;

    let (code, said) = check(&job)?;
    assert_eq!(code, Some(0), "{said}");
    let running = job.start("one", &[])?;
    job.wait_committed(1_000)?;
    running.kill()?;
    std::fs::remove_dir_all(job.path("state"))?;
    job.drain()?;

    job.audit()?;
    assert!(job.documents("zoo_analytics")? > 0, "windows are in MongoDB");
    let mut letters = job.dead_letters()?;
    letters.remove("late");
    assert_eq!(letters.values().sum::<usize>() as u64, report.wrong().values().sum::<u64>());
    Ok(())
}

fn refusals(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 1)?;
    secure(&job, PASSWORD)?;
    let (code, said) = check(&job)?;
    assert_eq!(code, Some(4), "no right is granted: {said}");
    assert!(said.contains(&job.topic("in")), "the topic is named: {said}");

    secure(&job, "a wrong one")?;
    let (code, said) = check(&job)?;
    assert_eq!(code, Some(4), "the password is wrong: {said}");
    assert!(said.to_lowercase().contains("authentication"), "{said}");

    let stranger = Certificates::ready(&job.path("stranger"))?.authority();
    let (file, known) = (job.path("testudo.toml"), stack.secured().authority);
    let text = std::fs::read_to_string(&file)?.replace(&known.display().to_string(), &stranger.display().to_string());
    std::fs::write(&file, text)?;
    let (code, said) = check(&job)?;
    assert_ne!(code, Some(0), "nobody vouches for the servers: {said}");
    assert!(said.to_lowercase().contains("certificate"), "{said}");
    Ok(())
}
