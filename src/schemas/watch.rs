//! Watches the subjects of a tenant's sources in the registry, so that a version is judged before the first record uses it.
//!
//! A round costs one request for each subject, and a few more for each version that has no verdict yet. It only asks and tells the desk;
//! what a registry in trouble does not say in one round is asked for in the next.

use std::collections::HashSet;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::board::{Board, Message, Met};
use super::record::{Place, Rule};
use crate::avro::SchemaId;
use crate::avro::registry::{Registry, RegistryFault};
use crate::tenant::Tenant;

/// Wait between looks at the board while the desk is not ready for versions.
const SOON: Duration = Duration::from_millis(100);
/// Versions that are looked at in one round of a subject; the newest of a baseline. A registry holds tens of a subject.
const VERSIONS_MAX: usize = 1_000;

/// A tenant's subjects and what was seen of them.
pub(super) struct Watch {
    pub(super) registry: Registry,
    pub(super) tenant: Arc<Tenant>,
    pub(super) board: Arc<Board>,
    pub(super) outbox: mpsc::Sender<Message>,
    pub(super) every: Duration,
    /// Source, subject, version: told to the desk.
    pub(super) seen: HashSet<(usize, String, i32)>,
    /// The same, not told yet because they rest on what is not there: said once.
    pub(super) incomplete: HashSet<(usize, String, i32)>,
    /// Whether the last round met trouble, which is told once.
    pub(super) is_in_trouble: bool,
}

impl Watch {
    /// Watches for ever; ends when the desk has.
    pub(super) async fn run(mut self) {
        let mut round = 0_u64;
        loop {
            let mut pause = SOON;
            if self.board.is_ready() {
                match self.round().await {
                    Ok(true) => pause = jittered(self.every, round),
                    // Baselines first, then at once the versions.
                    Ok(false) => {}
                    Err(Ended::Desk) => return,
                    Err(Ended::Registry(fault)) => {
                        if !std::mem::replace(&mut self.is_in_trouble, true) {
                            tracing::warn!(tenant = self.tenant.name, %fault, "subjects cannot be watched");
                        }
                        pause = jittered(self.every.min(Duration::from_secs(2)), round);
                    }
                }
                round += 1;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One round over all subjects. Whether every source has its baseline.
    async fn round(&mut self) -> Result<bool, Ended> {
        let tenant = self.tenant.clone();
        let mut is_complete = true;
        for (source, declared) in tenant.sources.iter().enumerate() {
            let subjects = declared.subjects();
            match self.board.has_baseline(source) {
                true => {
                    for subject in &subjects {
                        self.look(source, subject).await?;
                    }
                }
                false => {
                    is_complete = false;
                    let ids = self.registered(&subjects).await?;
                    self.tell(Message::Baseline { source, ids })?;
                }
            }
        }
        if std::mem::take(&mut self.is_in_trouble) {
            tracing::info!(tenant = self.tenant.name, "subjects are watched again");
        }
        Ok(is_complete)
    }

    /// Ids of all versions of these subjects.
    async fn registered(&self, subjects: &[String]) -> Result<Vec<u32>, Ended> {
        let mut ids = Vec::new();
        for subject in subjects {
            for version in self.registry.versions(subject, true).await?.into_iter().rev().take(VERSIONS_MAX) {
                match self.registry.version(subject, version).await {
                    Ok(found) => ids.push(found.id.0),
                    // Deleted for good since it was listed.
                    Err(RegistryFault::NotFound(_)) => {}
                    Err(fault) => return Err(fault.into()),
                }
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Tells the desk of versions that were not told of yet.
    async fn look(&mut self, source: usize, subject: &str) -> Result<(), Ended> {
        let versions = self.registry.versions(subject, true).await?;
        // A number that is gone may come back with another schema.
        let is_there = |(of, name, version): &(usize, String, i32)| *of != source || name != subject || versions.contains(version);
        self.seen.retain(is_there);
        self.incomplete.retain(is_there);
        let is_new = |version: &&i32| !self.seen.contains(&(source, subject.to_owned(), **version));
        let new: Vec<i32> = versions.iter().filter(is_new).rev().take(VERSIONS_MAX).copied().collect();
        for version in new {
            let found = match self.registry.version(subject, version).await {
                Ok(found) => found,
                Err(RegistryFault::NotFound(_)) => continue,
                Err(fault) => return Err(fault.into()),
            };
            if !self.board.is_settled(source, found.id.0) {
                let before = versions.iter().rev().find(|before| **before < version).copied();
                let met = match self.meet(source, subject, (version, before), found.id).await {
                    // It rests on something that is not there, or not yet: no reason to keep the versions behind it back.
                    Err(Ended::Registry(RegistryFault::NotFound(why))) => {
                        if self.incomplete.insert((source, subject.to_owned(), version)) {
                            tracing::warn!(
                                subject,
                                version,
                                schema_id = found.id.0,
                                why,
                                "a new schema version cannot be judged, it is looked at again"
                            );
                        }
                        continue;
                    }
                    met => met?,
                };
                self.tell(Message::Met(Box::new(met)))?;
            }
            self.seen.insert((source, subject.to_owned(), version));
        }
        Ok(())
    }

    /// A version, with the one before it.
    async fn meet(&self, source: usize, subject: &str, (version, before): (i32, Option<i32>), id: SchemaId) -> Result<Met, Ended> {
        let found = match self.registry.schema(id).await {
            Ok(fetched) => Ok(fetched),
            Err(RegistryFault::Bad(detail)) => Err(detail),
            Err(fault) => return Err(fault.into()),
        };
        // The rule is for people: that it is not known keeps no version back.
        let rule = match self.registry.rule(subject).await {
            Ok(level) => {
                let is_kept = match (before, &found) {
                    (Some(before), Ok(fetched)) => {
                        let answer = self.registry.is_compatible_with(subject, &before.to_string(), fetched).await;
                        answer.ok().map(|answer| answer.ok)
                    }
                    _ => None,
                };
                Some(Rule { level, is_kept })
            }
            Err(_) => None,
        };
        Ok(Met { source, id: id.0, found, place: Some(Place { subject: subject.to_owned(), version }), rule })
    }

    fn tell(&self, message: Message) -> Result<(), Ended> {
        self.outbox.send(message).map_err(|_| Ended::Desk)
    }
}

/// Why a round ended early.
enum Ended {
    Registry(RegistryFault),
    Desk,
}

impl From<RegistryFault> for Ended {
    fn from(fault: RegistryFault) -> Self {
        Self::Registry(fault)
    }
}

/// A pause of `every`, up to a fifth shorter or longer, so that instances do not ask in step.
fn jittered(every: Duration, round: u64) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let share = (RandomState::new().hash_one(round) % 1_024) as f64 / 1_024.0;
    every.mul_f64(0.8 + 0.4 * share)
}
