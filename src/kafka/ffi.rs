//! The calls that rdkafka's safe interface lacks; `unsafe`, here and in `ffi/questions.rs`, as nothing else of Testudo but `cli/memory.rs`.
//!
//! Each function states why its pointers are valid. Nothing else in the crate touches librdkafka's pointers.

#![allow(unsafe_code, reason = "librdkafka calls that rdkafka does not wrap: topic ids, membership, batches, flush without waiting steps")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::bindings::{
    rd_kafka_vu_s__bindgen_ty_1 as Argument, rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 as Memory,
    rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_2 as NamedValue,
};
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::port::Outgoing;
use super::slice::{Header, Headers};

mod questions;

pub use questions::{describe_topics, group_members};

/// Waits until everything queued was acknowledged, without paying `linger.ms`; `false` when time ran out.
///
/// rdkafka's own `flush` sets librdkafka's "no linger" flag for an instant only and then waits in steps of 100 ms.
pub fn flush<C: ClientContext>(client: &Client<C>, wait: Duration) -> bool {
    // SAFETY: the client owns the handle and outlives this call.
    let answer = unsafe { c::rd_kafka_flush(client.native_ptr(), millis(wait)) };
    answer == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// A partition's high watermark as of the last fetch, without asking a broker.
pub fn known_end<C: ClientContext>(client: &Client<C>, topic: &str, partition: i32) -> Option<i64> {
    let name = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client owns the handle; name and places outlive the call.
    let answer = unsafe { c::rd_kafka_get_watermark_offsets(client.native_ptr(), name.as_ptr(), partition, &mut low, &mut high) };
    (answer == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}

/// What stands beside a partition's offset in a list; nothing where the partition is not in it. rdkafka's own call panics at bytes that are
/// no text, which other programs may have committed.
pub fn metadata(list: &TopicPartitionList, topic: &str, partition: i32) -> String {
    let Ok(name) = CString::new(topic) else { return String::new() };
    // SAFETY: the list owns the element and what that points to, and outlives both uses; the size is that of the bytes.
    let bytes = unsafe {
        let element = c::rd_kafka_topic_partition_list_find(list.ptr(), name.as_ptr(), partition);
        if element.is_null() || (*element).metadata.is_null() || (*element).metadata_size == 0 {
            return String::new();
        }
        std::slice::from_raw_parts((*element).metadata.cast::<u8>(), (*element).metadata_size)
    };
    String::from_utf8_lossy(bytes).into_owned()
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

/// Events, and messages of partitions without a queue of their own, that wait for a consumer's owner.
pub fn waiting<C: ClientContext>(client: &Client<C>) -> usize {
    // SAFETY: the handle is valid while the client lives.
    length(unsafe { c::rd_kafka_queue_get_consumer(client.native_ptr()) })
}

/// Events, such as reports of records that were not delivered, that wait for a producer's owner.
pub fn reports<C: ClientContext>(client: &Client<C>) -> usize {
    // SAFETY: the handle is valid while the client lives.
    length(unsafe { c::rd_kafka_queue_get_main(client.native_ptr()) })
}

fn length(queue: *mut c::rd_kafka_queue_t) -> usize {
    if queue.is_null() {
        return 0;
    }
    // SAFETY: the queue is a reference of ours, given back at once.
    unsafe {
        let waiting = c::rd_kafka_queue_length(queue);
        c::rd_kafka_queue_destroy(queue);
        waiting
    }
}

/// Waits until a client has heard from a broker, at most for so long. Whether it has.
pub fn has_connected<C: ClientContext>(client: &Client<C>, wait: Duration) -> bool {
    // SAFETY: the handle is valid while the client lives.
    unsafe { c::rd_kafka_controllerid(client.native_ptr(), millis(wait)) >= 0 }
}

/// A queue of fetched messages, taken in batches: half the CPU of rdkafka's poll per message (docs/performance).
///
/// Partitions are forwarded to it one by one as they are assigned; the consumer's own queue, still polled by the owner, then
/// carries events only. (On the consumer's own queue a batch call would answer rebalances by itself.)
pub struct FetchQueue {
    queue: NonNull<c::rd_kafka_queue_t>,
    batch: Vec<*mut c::rd_kafka_message_t>,
}

// SAFETY: librdkafka's queues may be used from any thread, one at a time; `&mut self` of `consume` sees to the latter.
unsafe impl Send for FetchQueue {}

impl FetchQueue {
    /// A queue of `client`, which must outlive it: owners declare it before the client.
    pub fn new<C: ClientContext>(client: &Client<C>) -> Option<Self> {
        // SAFETY: the client owns the handle and outlives this call.
        let queue = NonNull::new(unsafe { c::rd_kafka_queue_new(client.native_ptr()) })?;
        Some(Self { queue, batch: Vec::new() })
    }

    /// Has a partition's messages delivered here; holds until the partition is given up.
    pub fn forward<C: ClientContext>(&self, client: &Client<C>, topic: &str, partition: i32) {
        let Ok(name) = CString::new(topic) else { return };
        // SAFETY: client and own queue are alive; the partition's queue is only a reference, given back at once.
        unsafe {
            let fetched = c::rd_kafka_queue_get_partition(client.native_ptr(), name.as_ptr(), partition);
            if !fetched.is_null() {
                c::rd_kafka_queue_forward(fetched, self.queue.as_ptr());
                c::rd_kafka_queue_destroy(fetched);
            }
        }
    }

    /// Waits up to `wait` for a message, then hands over what is there, at most `messages_max`; the number of messages.
    pub fn consume(&mut self, messages_max: usize, wait: Duration, mut take: impl FnMut(&Fetched<'_>)) -> usize {
        let first = self.fill(1, millis(wait));
        let rest = if first == 1 { self.fill_from(1, messages_max.saturating_sub(1), 0) } else { 0 };
        for message in self.batch.drain(..first + rest) {
            // SAFETY: librdkafka wrote valid messages into the first `first + rest` places; each is used before it is destroyed.
            unsafe {
                take(&Fetched { message: &*message });
                c::rd_kafka_message_destroy(message);
            }
        }
        first + rest
    }

    fn fill(&mut self, count: usize, wait_ms: i32) -> usize {
        self.batch.clear();
        self.fill_from(0, count, wait_ms)
    }

    fn fill_from(&mut self, at: usize, count: usize, wait_ms: i32) -> usize {
        self.batch.resize(at + count, std::ptr::null_mut());
        // SAFETY: the queue is alive, and there is room for `count` pointers from `at` on.
        let filled = unsafe { c::rd_kafka_consume_batch_queue(self.queue.as_ptr(), wait_ms, self.batch.as_mut_ptr().add(at), count) };
        usize::try_from(filled).unwrap_or(0)
    }
}

impl Drop for FetchQueue {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once, before its client.
        unsafe { c::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// Hands records to a producer. Topics are held, so that a record neither copies its topic's name nor looks it up under the client's
/// lock, and the names of headers are made C strings once for neighbours that share them (docs/performance). It is for one client, which
/// must outlive it: owners declare it before the client.
#[derive(Default)]
pub struct ProduceQueue {
    topics: Vec<(Arc<str>, NonNull<c::rd_kafka_topic_t>)>,
    headers: Headers,
    header_names: Vec<CString>,
    arguments: Vec<c::rd_kafka_vu_t>,
}

// SAFETY: librdkafka's topics may be used from any thread; the pointers in `arguments` are used only within the call that wrote them.
unsafe impl Send for ProduceQueue {}

impl ProduceQueue {
    /// Queues a record; librdkafka copies it.
    pub fn produce<C: ClientContext>(&mut self, client: &Client<C>, record: &Outgoing) -> Result<(), RDKafkaErrorCode> {
        use c::rd_kafka_vtype_t as kind;
        let topic = self.topic(client, &record.topic).ok_or(RDKafkaErrorCode::UnknownTopic)?;
        self.name_headers(&record.headers)?;
        let arguments = &mut self.arguments;
        arguments.clear();
        let mut add = |vtype, u| arguments.push(c::rd_kafka_vu_t { vtype, u });
        add(kind::RD_KAFKA_VTYPE_RKT, Argument { rkt: topic.as_ptr() });
        add(kind::RD_KAFKA_VTYPE_PARTITION, Argument { i32_: record.partition });
        add(kind::RD_KAFKA_VTYPE_MSGFLAGS, Argument { i: c::RD_KAFKA_MSG_F_COPY });
        add(kind::RD_KAFKA_VTYPE_TIMESTAMP, Argument { i64_: record.timestamp_ms });
        for (vtype, part) in [(kind::RD_KAFKA_VTYPE_KEY, &record.key), (kind::RD_KAFKA_VTYPE_VALUE, &record.value)] {
            if let Some(bytes) = part {
                add(vtype, Argument { mem: Memory { ptr: bytes.as_ptr().cast_mut().cast(), size: bytes.len() } });
            }
        }
        for (name, header) in self.header_names.iter().zip(self.headers.iter()) {
            let value = header.value.as_deref();
            let val = value.map_or(std::ptr::null(), |value| value.as_ptr().cast());
            // A slice is never longer than `isize` tells.
            let size = value.map_or(0, |value| value.len() as isize);
            add(kind::RD_KAFKA_VTYPE_HEADER, Argument { header: NamedValue { name: name.as_ptr(), val, size } });
        }
        // SAFETY: client and topic are alive; key, value and headers outlive the call, which copies them; the error is ours.
        unsafe {
            let error = c::rd_kafka_produceva(client.native_ptr(), arguments.as_ptr(), arguments.len());
            if error.is_null() {
                return Ok(());
            }
            let code = c::rd_kafka_error_code(error);
            c::rd_kafka_error_destroy(error);
            Err(code.into())
        }
    }

    fn topic<C: ClientContext>(&mut self, client: &Client<C>, name: &Arc<str>) -> Option<NonNull<c::rd_kafka_topic_t>> {
        let is_it = |(known, _): &&(Arc<str>, _)| Arc::ptr_eq(known, name) || known == name;
        if let Some((_, topic)) = self.topics.iter().find(is_it) {
            return Some(*topic);
        }
        let text = CString::new(&**name).ok()?;
        // SAFETY: the client owns the handle and outlives this queue; without a configuration the client's own is taken.
        let topic = NonNull::new(unsafe { c::rd_kafka_topic_new(client.native_ptr(), text.as_ptr(), std::ptr::null_mut()) })?;
        self.topics.push((name.clone(), topic));
        Some(topic)
    }

    fn name_headers(&mut self, headers: &Headers) -> Result<(), RDKafkaErrorCode> {
        if std::ptr::eq::<[Header]>(&*self.headers, &**headers) {
            return Ok(());
        }
        let names = headers.iter().map(|header| CString::new(header.name.as_str())).collect::<Result<_, _>>();
        self.header_names = names.map_err(|_| RDKafkaErrorCode::InvalidArgument)?;
        self.headers = headers.clone();
        Ok(())
    }
}

impl Drop for ProduceQueue {
    fn drop(&mut self) {
        for (_, topic) in self.topics.drain(..) {
            // SAFETY: made by `topic`, destroyed once, before its client.
            unsafe { c::rd_kafka_topic_destroy(topic.as_ptr()) };
        }
    }
}

/// A fetched message, or the error that stands in its place.
pub struct Fetched<'a> {
    message: &'a c::rd_kafka_message_t,
}

impl<'a> Fetched<'a> {
    /// Tells topics apart quickly: equal for messages of one topic and client.
    pub fn topic_identity(&self) -> usize {
        self.message.rkt as usize
    }

    /// The topic's name.
    pub fn topic(&self) -> String {
        // SAFETY: a message holds a reference to its topic.
        unsafe { text(c::rd_kafka_topic_name(self.message.rkt)) }
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.message.partition
    }

    /// The offset.
    pub fn offset(&self) -> i64 {
        self.message.offset
    }

    /// What went wrong, where this is no message.
    pub fn error(&self) -> Option<RDKafkaErrorCode> {
        (self.message.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| self.message.err.into())
    }

    /// Kafka timestamp in milliseconds since 1970, -1 where there is none.
    pub fn timestamp_ms(&self) -> i64 {
        let mut kind = c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive.
        unsafe { c::rd_kafka_message_timestamp(self.message, &mut kind) }
    }

    /// Key bytes.
    pub fn key(&self) -> Option<&'a [u8]> {
        bytes(self.message.key, self.message.key_len)
    }

    /// Value bytes.
    pub fn value(&self) -> Option<&'a [u8]> {
        bytes(self.message.payload, self.message.len)
    }

    /// Whether the record has no headers, as its bytes say. Asking librdkafka takes two blocks of memory even then, 8 % of all processor
    /// time (docs/performance).
    ///
    /// In message format 2 the number of headers follows the value (Kafka's `DefaultRecord`), and a value of at least a byte is handed out
    /// where it lies in the fetched batch (`rd_kafka_msgset_reader_msg_v2`, librdkafka 2.12.1). Older formats have neither headers nor, where
    /// no batch of format 2 came before them in the same answer, a leader epoch.
    fn is_bare(&self) -> bool {
        // SAFETY: the message is alive.
        let is_of_format_2 = unsafe { c::rd_kafka_message_leader_epoch(self.message) } >= 0;
        let value: *const u8 = self.message.payload.cast();
        // SAFETY: the batch lives as long as the message, and holds the number of headers behind the value. Only a log that went back to an
        // older format could have a leader epoch without them; no broker since 4.0 writes one (KIP-724).
        is_of_format_2 && !value.is_null() && self.message.len > 0 && unsafe { *value.add(self.message.len) } == 0
    }

    /// Headers, mostly none.
    pub fn headers(&self) -> Vec<Header> {
        let mut found = Vec::new();
        if self.is_bare() {
            return found;
        }
        let mut headers = std::ptr::null_mut();
        // SAFETY: the message is alive and owns its headers; names end with a zero byte, values have the length given.
        unsafe {
            if c::rd_kafka_message_headers(self.message, &mut headers) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return found;
            }
            let (mut name, mut value, mut length) = (std::ptr::null(), std::ptr::null(), 0);
            while c::rd_kafka_header_get_all(headers, found.len(), &mut name, &mut value, &mut length)
                == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                found.push(Header { name: text(name), value: bytes(value, length).map(<[u8]>::to_vec) });
            }
        }
        found
    }
}

fn bytes<'a>(pointer: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: librdkafka's messages give pointer and length of one buffer that lives as long as the message, or null.
    (!pointer.is_null()).then(|| unsafe { std::slice::from_raw_parts(pointer.cast(), length) })
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

/// Whole milliseconds, rounded up: a caller with less than one left would ask in vain until that is over.
fn millis(wait: Duration) -> i32 {
    i32::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(i32::MAX)
}

#[cfg(test)]
#[path = "ffi_tests.rs"]
mod tests;
