//! Who has what in a group, by the coordinator's word.
//!
//! Asked by librdkafka's older interface, which waits, and asks every broker. Its newer one, DescribeConsumerGroups, does neither, but
//! librdkafka 2.12.1 ends the process (`rd_kafka_enq_once_del_source_return`, an assertion) when the coordinator's connection breaks just
//! as the request is sent; a service must not look after itself with that.
//!
//! # Source
//! Kafka's `ConsumerProtocol` (assignment: version, topics with their partitions, user data).

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::groups::GroupInfo;

use super::ownership::Roster;
use super::position::TopicPartition;
use super::reaction::Failure;

/// The members of a group of the classic protocols as `me` sees them; nobody's while there is no such group.
///
/// # Errors
/// When not every broker answers within `wait`, for which it stands still.
pub fn ask<C: ClientContext>(client: &Client<C>, group: &str, me: String, wait: Duration) -> Result<Roster, Failure> {
    let listed = client.fetch_group_list(Some(group), wait);
    let listed = listed.map_err(|error| Failure::of(format!("ask who is in group {group}"), &error))?;
    Ok(listed.groups().iter().find(|found| found.name() == group).map_or_else(Roster::default, |found| roster(found, me)))
}

fn roster(group: &GroupInfo, me: String) -> Roster {
    let members = group.members().iter();
    let told = members.map(|member| Some((member.id().to_owned(), assignment(member.assignment()?)?))).collect::<Option<_>>();
    // Whoever cannot be read may have anything.
    Roster { me, rests: group.state() == "Stable" && told.is_some(), members: told.unwrap_or_default() }
}

/// What one member has.
fn assignment(bytes: &[u8]) -> Option<BTreeSet<TopicPartition>> {
    let mut left = bytes;
    // The version: later ones only append.
    let _version = take::<2>(&mut left)?;
    let topics = count(&mut left)?;
    let mut all = BTreeSet::new();
    for _ in 0..topics {
        let length = usize::try_from(i16::from_be_bytes(take(&mut left)?)).ok()?;
        let (topic, rest) = left.split_at_checked(length)?;
        left = rest;
        let topic = std::str::from_utf8(topic).ok()?;
        for _ in 0..count(&mut left)? {
            all.insert(TopicPartition::new(topic, i32::from_be_bytes(take(&mut left)?)));
        }
    }
    Some(all)
}

fn count(left: &mut &[u8]) -> Option<usize> {
    usize::try_from(i32::from_be_bytes(take(left)?)).ok()
}

fn take<const N: usize>(left: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = left.split_first_chunk()?;
    *left = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_and_a_cut_one_is_not() {
        let bytes = [
            &[0, 1, 0, 0, 0, 2, 0, 1][..],
            b"a",
            &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 2],
            b"bc",
            &[0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0],
        ]
        .concat();

        assert_eq!(
            assignment(&bytes),
            Some([("a", 0), ("a", 7), ("bc", 3)].map(|(topic, number)| TopicPartition::new(topic, number)).into())
        );
        for length in 0..bytes.len() - 4 {
            assert_eq!(assignment(&bytes[..length]), None, "{length} bytes");
        }
    }
}
