//! Which partitions a group's members have, by the coordinator's word.
//!
//! # Source
//! Kafka's `ConsumerProtocol` (assignment: version, topics with their partitions, user data); KIP-345.

use rdkafka::groups::GroupInfo;

/// Partitions of topics that the members of a group that rests have together; nothing while it does not rest, or where a member's
/// assignment cannot be read.
pub(super) fn owned(group: &GroupInfo) -> Option<Vec<(String, i32)>> {
    if group.state() != "Stable" {
        return None;
    }
    let mut all = Vec::new();
    for member in group.members() {
        all.extend(assignment(member.assignment()?)?);
    }
    Some(all)
}

/// What one member has.
fn assignment(bytes: &[u8]) -> Option<Vec<(String, i32)>> {
    let mut left = bytes;
    // The version: later ones only append.
    let _version = take::<2>(&mut left)?;
    let topics = count(&mut left)?;
    let mut all = Vec::new();
    for _ in 0..topics {
        let length = usize::try_from(i16::from_be_bytes(take(&mut left)?)).ok()?;
        let (topic, rest) = left.split_at_checked(length)?;
        left = rest;
        let topic = std::str::from_utf8(topic).ok()?;
        for _ in 0..count(&mut left)? {
            all.push((topic.to_owned(), i32::from_be_bytes(take(&mut left)?)));
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

        assert_eq!(assignment(&bytes), Some(vec![("a".into(), 0), ("a".into(), 7), ("bc".into(), 3)]));
        for length in 0..bytes.len() - 4 {
            assert_eq!(assignment(&bytes[..length]), None, "{length} bytes");
        }
    }
}
