//! Questions to brokers: which topics there are, who is in a group.
//!
//! Each is a request of librdkafka's admin interface, started here, answered by an event, and read before that is destroyed.

use std::ffi::{CString, c_char};
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::client::{Client, ClientContext};
use rdkafka::types::RDKafkaRespErr;

use super::{millis, text};
use crate::kafka::port::{TopicDescription, TopicId};
use crate::kafka::reaction::{Failure, Reaction};

/// Describes topics with their ids (KIP-516); topics that do not exist are left out.
pub fn describe_topics<C: ClientContext>(client: &Client<C>, topics: &[&str], wait: Duration) -> Result<Vec<TopicDescription>, Failure> {
    let attempted = || format!("describe topics {}", topics.join(", "));
    let names: Vec<CString> = topics
        .iter()
        .map(|name| CString::new(*name))
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::new(Reaction::Stop, attempted(), error))?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: `pointers` and `names` outlive the collection, which copies them and is destroyed after its last use; the request is of the
    // kind that is named, and so is its event.
    unsafe {
        let collection = c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let operation = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let start = |handle, options, queue| c::rd_kafka_DescribeTopics(handle, collection, options, queue);
        let described = ask(client, operation, wait, start, |event| read_descriptions(event), attempted);
        c::rd_kafka_TopicCollection_destroy(collection);
        described
    }
}

/// The members of a group, as `client at host`, whichever protocol it has (KIP-848 too); none where there is no such group.
pub fn group_members<C: ClientContext>(client: &Client<C>, group: &str, wait: Duration) -> Result<Vec<String>, Failure> {
    let attempted = || format!("ask who is in group {group}");
    let name = CString::new(group).map_err(|error| Failure::new(Reaction::Stop, attempted(), error))?;
    let mut names = [name.as_ptr()];
    // SAFETY: names outlive the request, which copies them; the request is of the kind that is named, and so is its event.
    unsafe {
        let operation = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
        let start = |handle, options, queue| c::rd_kafka_DescribeConsumerGroups(handle, names.as_mut_ptr(), 1, options, queue);
        ask(client, operation, wait, start, |event| read_members(event), attempted)
    }
}

/// Starts an admin request, waits for its event and reads that; everything made on the way is destroyed.
///
/// # Safety
/// `start` must begin a request of kind `operation` with what it is given, and `read` must take an event of that kind.
unsafe fn ask<C: ClientContext, T>(
    client: &Client<C>,
    operation: c::rd_kafka_admin_op_t,
    wait: Duration,
    start: impl FnOnce(*mut c::rd_kafka_t, *const c::rd_kafka_AdminOptions_t, *mut c::rd_kafka_queue_t),
    read: impl FnOnce(*mut c::rd_kafka_event_t) -> Result<T, String>,
    attempted: impl Fn() -> String,
) -> Result<T, Failure> {
    // SAFETY: the handle is valid while the client lives; queue, options and event are destroyed in reverse order of their making, after
    // last use.
    unsafe {
        let handle = client.native_ptr();
        let queue = c::rd_kafka_queue_new(handle);
        let options = c::rd_kafka_AdminOptions_new(handle, operation);
        let mut error_text: [c_char; 256] = [0; 256];
        c::rd_kafka_AdminOptions_set_request_timeout(options, millis(wait).max(1), error_text.as_mut_ptr(), error_text.len());
        start(handle, options, queue);
        let event = c::rd_kafka_queue_poll(queue, millis(wait + Duration::from_secs(1)));
        let answer = match event.is_null() {
            true => Err(Failure::timed_out(Reaction::Retry, attempted(), wait)),
            false => read(event).map_err(|cause| Failure::new(Reaction::Retry, attempted(), cause)),
        };
        if !event.is_null() {
            c::rd_kafka_event_destroy(event);
        }
        c::rd_kafka_AdminOptions_destroy(options);
        c::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// # Safety
/// `event` must be a live event of a DescribeTopics call.
unsafe fn read_descriptions(event: *mut c::rd_kafka_event_t) -> Result<Vec<TopicDescription>, String> {
    // SAFETY: by the caller's promise; everything reached from the event lives as long as it does.
    unsafe {
        if c::rd_kafka_event_error(event) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(text(c::rd_kafka_event_error_string(event)));
        }
        let result = c::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err("the answer is of another kind".into());
        }
        let mut count = 0;
        let topics = c::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        let mut descriptions = Vec::with_capacity(count);
        for index in 0..count {
            let topic = *topics.add(index);
            let error = c::rd_kafka_TopicDescription_error(topic);
            match c::rd_kafka_error_code(error) {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {}
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART => continue,
                _ => return Err(text(c::rd_kafka_error_string(error))),
            }
            let mut partitions = 0;
            c::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
            descriptions.push(TopicDescription {
                name: text(c::rd_kafka_TopicDescription_name(topic)).into(),
                id: TopicId(text(c::rd_kafka_Uuid_base64str(c::rd_kafka_TopicDescription_topic_id(topic))).into()),
                partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
            });
        }
        Ok(descriptions)
    }
}

/// The groups that an answer describes; those that do not exist are left out.
///
/// # Safety
/// `event` must be a live event of a DescribeConsumerGroups call; the groups live as long as it does.
unsafe fn described_groups(event: *mut c::rd_kafka_event_t) -> Result<Vec<*const c::rd_kafka_ConsumerGroupDescription_t>, String> {
    // SAFETY: by the caller's promise; everything reached from the event lives as long as it does.
    unsafe {
        if c::rd_kafka_event_error(event) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(text(c::rd_kafka_event_error_string(event)));
        }
        let result = c::rd_kafka_event_DescribeConsumerGroups_result(event);
        if result.is_null() {
            return Err("the answer is of another kind".into());
        }
        let mut count = 0;
        let groups = c::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
        let mut described = Vec::with_capacity(count);
        for index in 0..count {
            let group = *groups.add(index);
            let error = c::rd_kafka_ConsumerGroupDescription_error(group);
            match c::rd_kafka_error_code(error) {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => described.push(group),
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND => {}
                _ => return Err(text(c::rd_kafka_error_string(error))),
            }
        }
        Ok(described)
    }
}

/// # Safety
/// `event` must be a live event of a DescribeConsumerGroups call.
unsafe fn read_members(event: *mut c::rd_kafka_event_t) -> Result<Vec<String>, String> {
    // SAFETY: by the caller's promise; everything reached from the event lives as long as it does.
    unsafe {
        let mut members = Vec::new();
        for group in described_groups(event)? {
            for index in 0..c::rd_kafka_ConsumerGroupDescription_member_count(group) {
                let member = c::rd_kafka_ConsumerGroupDescription_member(group, index);
                let (client, host) = (c::rd_kafka_MemberDescription_client_id(member), c::rd_kafka_MemberDescription_host(member));
                members.push(format!("{} at {}", text(client), text(host)));
            }
        }
        Ok(members)
    }
}
