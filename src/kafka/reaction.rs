//! Errors sorted by what one does about them; above this file nobody looks at a client's error codes.
//!
//! # Source
//! librdkafka's INTRODUCTION.md ("Transactional producer", error classes), Kafka Streams' `TaskMigratedException`, ADR 0004.

use std::fmt;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode as Code};

/// What a failure asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The same call may be repeated, within a deadline.
    Retry,
    /// The transaction is lost: abort it, go back to the committed positions.
    Abort,
    /// The producer is unusable or the outcome unknown: replace it, then ask the group where it stands (EOS-7, EOS-8).
    ReplaceProducer,
    /// The group moved on without us: drop everything uncommitted and take part again.
    Rejoin,
    /// Nobody but an operator can help; the text says how.
    Stop,
}

/// A failed call to the broker: what was attempted, on what, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("failed to {attempted}: {cause}")]
pub struct Failure {
    /// What to do.
    pub reaction: Reaction,
    /// What was attempted, on what.
    pub attempted: String,
    /// The client's words.
    pub cause: String,
    /// Whether a newer producer of the same transactional id has taken over, or the broker thinks so.
    pub is_fenced: bool,
    /// Whether the broker refused a record for what it is: doing the same again cannot help.
    pub is_refused: bool,
    /// Whether authentication or authorisation failed.
    pub is_forbidden: bool,
}

impl Failure {
    /// A failure of Testudo's own making.
    pub fn new(reaction: Reaction, attempted: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self { reaction, attempted: attempted.into(), cause: cause.to_string(), is_fenced: false, is_refused: false, is_forbidden: false }
    }

    /// A call that had not come to an end after `waited`.
    pub fn timed_out(reaction: Reaction, attempted: impl Into<String>, waited: Duration) -> Self {
        Self::new(reaction, attempted, format_args!("no answer within {} ms", waited.as_millis()))
    }

    /// Sorts a client error.
    pub fn of(attempted: impl Into<String>, error: &KafkaError) -> Self {
        let code = error.rdkafka_error_code();
        Self {
            is_fenced: code.is_some_and(is_fencing),
            is_refused: code.is_some_and(is_refusal),
            is_forbidden: code.is_some_and(is_forbidding),
            ..Self::new(reaction_to(error), attempted, words(error))
        }
    }

    /// Sorts a bare code.
    pub fn of_code(attempted: impl Into<String>, code: Code) -> Self {
        Self { is_fenced: is_fencing(code), is_forbidden: is_forbidding(code), ..Self::new(reaction_to_code(code), attempted, code) }
    }
}

/// A client's words. Of a property that it refuses it would show the value, which may be a secret.
fn words(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, words, key, _) => format!("{words} ({key})"),
        other => other.to_string(),
    }
}

/// Whether a code says that a newer producer has the transactional id.
pub fn is_fencing(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

fn is_forbidding(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
    )
}

/// Whether a code is about the record itself.
pub fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::PolicyViolation
    )
}

/// The one table: client error → reaction.
pub fn reaction_to(error: &KafkaError) -> Reaction {
    match error {
        KafkaError::Transaction(error) => reaction_to_transaction(error),
        KafkaError::Flush(_) => Reaction::Retry,
        // These carry text only. A seek is refused while the client starts or stops to fetch; the others mean that client and
        // group no longer agree, which a new member mends.
        KafkaError::Seek(_) => Reaction::Retry,
        KafkaError::Subscription(_) | KafkaError::PauseResume(_) => Reaction::Rejoin,
        KafkaError::AdminOp(code) => reaction_to_code(*code),
        other => other.rdkafka_error_code().map_or(Reaction::Stop, reaction_to_code),
    }
}

fn reaction_to_transaction(error: &RDKafkaError) -> Reaction {
    let by_code = reaction_to_code(error.code());
    if error.is_fatal() {
        // Fenced by time-out or by a rival: a new producer finds out which (repeated fencing stops the worker).
        return if by_code == Reaction::Stop { Reaction::Stop } else { Reaction::ReplaceProducer };
    }
    if error.txn_requires_abort() {
        return if by_code == Reaction::Rejoin { Reaction::Rejoin } else { Reaction::Abort };
    }
    if error.is_retriable() {
        return Reaction::Retry;
    }
    // librdkafka: an error with none of the three flags is to be treated as fatal.
    if by_code == Reaction::Stop { Reaction::Stop } else { Reaction::ReplaceProducer }
}

/// Whether a code speaks of something that passes by itself: the network, a broker that is away or new in its part, or that has left the
/// cluster's metadata, so that the client lets go of it and of what it was asked (`DestroyBroker`).
fn passes(code: Code) -> bool {
    matches!(
        code,
        Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::MessageTimedOut
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::QueueFull
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::NotLeaderForPartition
            | Code::LeaderNotAvailable
            | Code::NetworkException
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::ConcurrentTransactions
            | Code::UnstableOffsetCommit
            | Code::UnknownLeaderEpoch
            | Code::FencedLeaderEpoch
            | Code::Conflict
            | Code::PreviousInProgress
            | Code::WaitingForCoordinator
            | Code::RebalanceInProgress
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::UnknownTopic
            | Code::OffsetNotAvailable
            | Code::KafkaStorageError
            | Code::ReplicaNotAvailable
            | Code::BrokerNotAvailable
            | Code::NotController
            | Code::InvalidReplicationFactor
            | Code::Outdated
            | Code::InProgress
            | Code::DestroyBroker
            | Code::BrokerDestroy
            | Code::UnknownBroker
            | Code::NodeUpdate
            | Code::TimedOutQueue
            | Code::WaitCache
            | Code::Interrupted
            | Code::Retry
            | Code::Partial
            | Code::ISRInsufficient
            | Code::UnknownTopicId
            | Code::LogDirNotFound
            | Code::ListenerNotFound
            | Code::FetchSessionIdNotFound
            | Code::InvalidFetchSessionEpoch
            | Code::ReassignmentInProgress
            | Code::PreferredLeaderNotAvailable
            | Code::EligibleLeadersNotAvailable
            | Code::ThrottlingQuotaExceeded
            | Code::OperationNotAttempted
            | Code::StaleControllerEpoch
            | Code::StaleBrokerEpoch
            | Code::RebootstrapRequired
            | Code::Fail
    )
}

/// The reaction to a bare code.
pub fn reaction_to_code(code: Code) -> Reaction {
    match code {
        _ if passes(code) => Reaction::Retry,
        Code::IllegalGeneration
        | Code::UnknownMemberId
        | Code::MemberIdRequired
        | Code::FencedMemberEpoch
        | Code::StaleMemberEpoch
        | Code::FencedInstanceId
        | Code::AssignmentLost
        | Code::PollExceeded => Reaction::Rejoin,
        Code::Fenced
        | Code::ProducerFenced
        | Code::InvalidProducerEpoch
        | Code::InvalidTransactionalState
        | Code::UnknownProducerId
        | Code::InvalidProducerIdMapping
        | Code::OutOfOrderSequenceNumber
        | Code::TransactionCoordinatorFenced
        | Code::Fatal
        | Code::State
        | Code::Inconsistent => Reaction::ReplaceProducer,
        Code::PurgeQueue | Code::PurgeInflight | Code::MessageSizeTooLarge | Code::InvalidMessage | Code::InvalidTimestamp => {
            Reaction::Abort
        }
        _ => Reaction::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With three brokers of which one is killed the client answers so: nothing that an operator could mend.
    #[test]
    fn a_broker_that_left_the_cluster_is_waited_out() {
        let error = KafkaError::MetadataFetch(Code::DestroyBroker);

        assert_eq!(Failure::of("read the bounds", &error).reaction, Reaction::Retry);
    }
}
