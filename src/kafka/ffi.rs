//! The calls that rdkafka's safe interface lacks; the only `unsafe` of Testudo.
//!
//! Each function states why its pointers are valid. Nothing else in the crate touches librdkafka's pointers.

#![allow(unsafe_code, reason = "librdkafka calls that rdkafka does not wrap: topic ids, membership, flush without waiting steps")]

use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::client::{Client, ClientContext};
use rdkafka::types::RDKafkaRespErr;

use super::port::{TopicDescription, TopicId};
use super::reaction::{Failure, Reaction};

/// Waits until everything queued was acknowledged, without paying `linger.ms`; `false` when time ran out.
///
/// rdkafka's own `flush` sets librdkafka's "no linger" flag for an instant only and then waits in steps of 100 ms.
pub fn flush<C: ClientContext>(client: &Client<C>, wait: Duration) -> bool {
    // SAFETY: the client owns the handle and outlives this call.
    let answer = unsafe { c::rd_kafka_flush(client.native_ptr(), millis(wait)) };
    answer == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// Member id and generation as of now.
///
/// Before the first join and after a lost membership librdkafka hands out an empty member id and generation −1, which
/// brokers accept *unfenced*; the caller must refuse that.
pub fn membership<C: ClientContext>(client: &Client<C>) -> Option<(String, i32)> {
    // SAFETY: the handle is valid while the client lives; the returned object is ours and destroyed below, after its last use.
    unsafe {
        let metadata = c::rd_kafka_consumer_group_metadata(client.native_ptr());
        if metadata.is_null() {
            return None;
        }
        let member = text(c::rd_kafka_consumer_group_metadata_member_id(metadata));
        let generation = c::rd_kafka_consumer_group_metadata_generation_id(metadata);
        c::rd_kafka_consumer_group_metadata_destroy(metadata);
        Some((member, generation))
    }
}

/// Describes topics with their ids (KIP-516); topics that do not exist are left out.
pub fn describe_topics<C: ClientContext>(client: &Client<C>, topics: &[&str], wait: Duration) -> Result<Vec<TopicDescription>, Failure> {
    let attempted = || format!("describe topics {}", topics.join(", "));
    let names: Vec<CString> = topics
        .iter()
        .map(|name| CString::new(*name))
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::new(Reaction::Stop, attempted(), error))?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: the handle is valid while the client lives; `pointers` and `names` outlive the collection, which copies
    // them; queue, options, collection and event are destroyed here, in reverse order of their making, after last use.
    unsafe {
        let handle = client.native_ptr();
        let queue = c::rd_kafka_queue_new(handle);
        let options = c::rd_kafka_AdminOptions_new(handle, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        let mut error_text: [c_char; 256] = [0; 256];
        c::rd_kafka_AdminOptions_set_request_timeout(options, millis(wait).max(1), error_text.as_mut_ptr(), error_text.len());
        let collection = c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        c::rd_kafka_DescribeTopics(handle, collection, options, queue);
        let event = c::rd_kafka_queue_poll(queue, millis(wait + Duration::from_secs(1)));
        let described = if event.is_null() {
            Err(Failure::timed_out(Reaction::Retry, attempted(), wait))
        } else {
            read_descriptions(event).map_err(|cause| Failure::new(Reaction::Retry, attempted(), cause))
        };
        if !event.is_null() {
            c::rd_kafka_event_destroy(event);
        }
        c::rd_kafka_TopicCollection_destroy(collection);
        c::rd_kafka_AdminOptions_destroy(options);
        c::rd_kafka_queue_destroy(queue);
        described
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

/// # Safety
/// `pointer` must be null or point to a string that ends with a zero byte.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

fn millis(wait: Duration) -> i32 {
    i32::try_from(wait.as_millis()).unwrap_or(i32::MAX)
}
