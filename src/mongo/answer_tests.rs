//! Claims about answers, with replies as servers give them.

use mongodb::bson::doc;

use super::*;

#[test]
fn what_was_done_is_counted() {
    let reply = doc! { "n": 5, "nModified": 2, "upserted": [{ "index": 0, "_id": 1 }, { "index": 3, "_id": 2 }], "ok": 1.0 };

    let answer = read(&reply, Form::Update, 5);

    assert_eq!(answer, Answer { written: 4, unchanged: 1, ..Answer::default() });
}

#[test]
fn inserted_documents_are_written() {
    assert_eq!(read(&doc! { "n": 3, "ok": 1 }, Form::Insert, 3), Answer { written: 3, ..Answer::default() });
}

/// C115: a duplicate key is a race with somebody who inserted the same document.
#[test]
fn a_duplicate_key_is_sent_again_and_the_others_are_done() {
    let reply = doc! {
        "n": 2, "nModified": 2, "ok": 1,
        "writeErrors": [{ "index": 1, "code": 11000, "keyPattern": { "_id": 1 }, "errmsg": "E11000 duplicate key error" }],
    };

    let answer = read(&reply, Form::Update, 3);

    assert_eq!((answer.raced, answer.written, answer.trouble), (vec![1], 2, None));
}

/// C123: `ok: 1` and `n` as wished, and yet a failover may take it back.
#[test]
fn a_write_concern_error_repeats_the_whole_command() {
    let reply = doc! {
        "n": 3, "nModified": 3, "ok": 1,
        "writeConcernError": { "code": 64, "codeName": "WriteConcernTimeout", "errmsg": "waiting for replication timed out" },
    };

    let answer = read(&reply, Form::Update, 3);

    assert_eq!(answer.again, [0, 1, 2]);
    assert!(answer.trouble.is_some_and(|trouble| trouble.contains("majority")));
}

#[test]
fn a_document_with_a_fault_of_its_own_is_refused() {
    // The last ones: no index keys, a hashed index over an array, a text index in a language that there is not, or that is no text.
    for code in [121, 2, 10_334, 17_419, 52, 201, 16_766, 17_261, 17_262] {
        let reply = doc! { "n": 1, "nModified": 1, "ok": 1, "writeErrors": [{ "index": 0, "code": code, "errmsg": "no" }] };

        let answer = read(&reply, Form::Update, 2);

        assert_eq!(answer.refused, [Refusal { statement: 0, code, detail: format!("code {code}: no") }], "{code}");
        assert!(answer.again.is_empty() && answer.trouble.is_none());
    }
}

#[test]
fn what_passes_or_is_of_the_place_is_sent_again() {
    // NotWritablePrimary, PrimarySteppedDown, InterruptedDueToReplStateChange, WriteConflict, OutOfDiskSpace; Unauthorized,
    // CommandNotSupportedOnView, UserWritesBlocked.
    for code in [10_107, 189, 11_602, 112, 14_031, 13, 166, 371] {
        let reply = doc! { "n": 0, "nModified": 0, "ok": 1, "writeErrors": [{ "index": 0, "code": code, "errmsg": "not now" }] };

        let answer = read(&reply, Form::Update, 1);

        assert_eq!(answer.again, [0], "{code}");
        assert!(answer.refused.is_empty() && answer.doubted.is_empty() && answer.trouble.is_some(), "{code}");
    }
}

#[test]
fn an_unknown_code_is_doubted_unless_the_whole_command_is() {
    let mut reply = doc! { "n": 1, "nModified": 1, "ok": 1, "writeErrors": [{ "index": 1, "code": 999_999, "errmsg": "no" }] };

    let answer = read(&reply, Form::Update, 2);

    assert_eq!(answer.doubted, [Refusal { statement: 1, code: 999_999, detail: "code 999999: no".into() }]);
    assert!(answer.again.is_empty() && answer.refused.is_empty() && answer.trouble.is_some());

    reply.insert("writeConcernError", doc! { "code": 64, "errmsg": "timed out" });
    let answer = read(&reply, Form::Update, 2);

    assert_eq!((answer.again, answer.doubted), (vec![0, 1], Vec::new()));
}

#[test]
fn a_write_concern_error_does_not_revive_what_was_refused() {
    let reply = doc! {
        "n": 1, "nModified": 1, "ok": 1,
        "writeErrors": [{ "index": 0, "code": 121, "errmsg": "no" }, { "index": 2, "code": 11000, "errmsg": "dup" }],
        "writeConcernError": { "code": 64, "errmsg": "timed out" },
    };

    let answer = read(&reply, Form::Update, 3);

    assert_eq!((answer.again, answer.raced), (vec![1], vec![2]));
    assert_eq!(answer.refused.len(), 1);
}

#[test]
fn an_answer_that_does_not_add_up_is_no_acknowledgement() {
    for reply in
        [doc! { "ok": 1 }, doc! { "n": 1, "nModified": 1, "ok": 1 }, doc! { "n": 1, "ok": 1, "writeErrors": [{ "index": 7, "code": 121 }] }]
    {
        let answer = read(&reply, Form::Update, 2);

        assert_eq!(answer.again, [0, 1], "{reply}");
        assert!(answer.trouble.is_some(), "{reply}");
    }
}

#[test]
fn a_long_error_text_is_cut_between_characters() {
    let reply = doc! { "n": 0, "ok": 1, "writeErrors": [{ "index": 0, "code": 121, "errmsg": "ä".repeat(10_000) }] };

    let answer = read(&reply, Form::Insert, 1);

    assert!(answer.refused[0].detail.len() < 600);
}
