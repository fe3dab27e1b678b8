//! Claims about collecting: totals do not see how an input was cut, and nothing of a dropped epoch is left.

use proptest::prelude::*;

use super::*;
use crate::kafka::{Header, Offset, RunBuilder};

fn writer() -> Writer {
    Writer::new(Author {
        topic: "zoo-ledger".into(),
        schema: SchemaId(9),
        transactional_id: "zoo-one-0".into(),
        tenant_version: "v".into(),
    })
}

fn input(partition: i32) -> TopicPartition {
    TopicPartition::new("in", partition)
}

/// Records `from..to` of a partition; every third makes an output.
fn run(partition: i32, from: i64, to: i64) -> Run {
    let mut run = RunBuilder::new(input(partition));
    for offset in from..to {
        let value = format!("value {offset} of {partition}");
        let value = (offset % 5 != 0).then_some(value.as_bytes());
        run.push(Offset(offset), 1_000 + offset, Some(format!("k{offset}").as_bytes()), value, Vec::new());
    }
    run.finish()
}

fn output(partition: i32, offset: i64) -> Outgoing {
    Outgoing {
        topic: "alerts".into(),
        partition: (offset % 2) as i32,
        key: None,
        value: Some(format!("alert {offset} of {partition}").into()),
        timestamp_ms: 1_000 + offset,
        headers: vec![Header { name: "h".into(), value: None }].into(),
    }
}

/// Takes records of a partition that stands at `first`.
fn take(writer: &mut Writer, partition: i32, first: i64, from: i64, to: i64) {
    let run = run(partition, from, to);
    for offset in (from..to).filter(|offset| offset % 3 == 0) {
        writer.produced(&input(partition), Position(first), &output(partition, offset));
    }
    let records = run.len();
    let taken = Taken {
        records,
        end: Position(to),
        admitted: records as u64,
        dropped: 0,
        dead_letters: 0,
        stream_time_us: Some(to),
        schema_ids: &vec![1; records],
    };
    writer.took(&run, Position(first), &taken);
}

fn close(writer: &mut Writer) -> Vec<Transaction> {
    writer.close(1).iter().map(|record| Transaction::decode(record.value.as_deref().expect("a value")).expect("decoded")).collect()
}

type Totals = BTreeMap<TopicPartition, Sum>;

/// Sums over transactions: of inputs and of outputs, by partition.
fn totals(transactions: &[Transaction]) -> (Totals, Totals) {
    let (mut inputs, mut outputs) = (Totals::new(), Totals::new());
    for range in transactions.iter().flat_map(|transaction| &transaction.inputs) {
        *inputs.entry(range.partition.clone()).or_default() += range.taken;
        for (partition, sum) in &range.outputs {
            *outputs.entry(partition.clone()).or_default() += *sum;
        }
    }
    (inputs, outputs)
}

/// Two partitions of `records` records each, cut into slices, and after every so many slices an epoch ends.
fn cut(records: i64, slices: &[i64], epochs: &[usize]) -> Vec<Transaction> {
    let mut writer = writer();
    let mut transactions = Vec::new();
    let (mut at, mut first, mut slice, mut epoch, mut in_epoch) = ([0, 0], [0, 0], 0, 0, 0);
    while at.iter().any(|at| *at < records) {
        let partition = slice % 2;
        let to = (at[partition] + slices[slice % slices.len()]).min(records);
        take(&mut writer, partition as i32, first[partition], at[partition], to);
        at[partition] = to;
        (slice, in_epoch) = (slice + 1, in_epoch + 1);
        if in_epoch >= epochs[epoch % epochs.len()] {
            transactions.extend(close(&mut writer));
            (first, epoch, in_epoch) = (at, epoch + 1, 0);
        }
    }
    transactions.extend(close(&mut writer));
    transactions
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cut_gives_the_same_totals(
        records in 1i64..200,
        slices in proptest::collection::vec(1i64..40, 1..6),
        epochs in proptest::collection::vec(1usize..5, 1..6),
    ) {
        let whole = cut(records, &[records], &[2]);
        let cut = cut(records, &slices, &epochs);

        prop_assert_eq!(totals(&whole), totals(&cut));
        let mut ends: BTreeMap<TopicPartition, Position> = BTreeMap::new();
        for range in cut.iter().flat_map(|transaction| &transaction.inputs) {
            let before = ends.insert(range.partition.clone(), range.end).unwrap_or(Position(0));
            prop_assert_eq!(before, range.first, "ranges follow each other");
        }
    }
}

#[test]
fn a_dropped_epoch_leaves_nothing_but_its_number() {
    let (mut once, mut twice) = (writer(), writer());
    take(&mut once, 0, 0, 0, 10);

    take(&mut twice, 0, 0, 0, 7);
    close(&mut twice);
    take(&mut twice, 0, 0, 0, 5);
    twice.discard();
    take(&mut twice, 0, 0, 0, 10);

    let (once, twice) = (close(&mut once), close(&mut twice));
    assert_eq!((once[0].sequence, twice[0].sequence), (0, 1));
    assert_eq!(once[0].inputs, twice[0].inputs);
}

#[test]
fn only_what_was_taken_of_a_run_counts() {
    let mut writer = writer();
    let run = run(0, 0, 10);
    let taken =
        Taken { records: 4, end: Position(4), admitted: 4, dropped: 0, dead_letters: 0, stream_time_us: None, schema_ids: &[3, 1, 1, 3] };
    writer.took(&run, Position(0), &taken);
    let mut four = self::writer();
    take(&mut four, 0, 0, 0, 4);

    let (found, wanted) = (close(&mut writer), close(&mut four));

    assert_eq!(found[0].inputs[0].taken, wanted[0].inputs[0].taken);
    assert_eq!(found[0].schema_ids, [1, 3]);
}

#[test]
fn a_window_that_closes_without_a_new_record_has_an_empty_range() {
    let mut writer = writer();
    writer.produced(&input(5), Position(77), &output(5, 0));

    let ranges = &close(&mut writer)[0].inputs;

    assert_eq!((ranges[0].first, ranges[0].end, ranges[0].taken), (Position(77), Position(77), Sum::default()));
    assert_eq!(ranges[0].outputs.len(), 1);
}

/// A refused ledger record would stop the tenant for ever.
#[test]
fn a_ledger_record_does_not_outgrow_what_brokers_take() {
    let mut writer = writer();
    for partition in 0..400 {
        for place in 0..60 {
            writer.produced(&input(partition), Position(0), &Outgoing { partition: place, ..output(partition, 0) });
        }
    }

    let records = writer.close(1);

    assert!(records.len() > 1 && records.iter().all(|record| record.bytes() <= RECORD_BYTES_MAX), "{}", records.len());
    let of = |record: &Outgoing| Transaction::decode(record.value.as_deref().expect("a value")).expect("decoded").inputs.len();
    assert_eq!(records.iter().map(of).sum::<usize>(), 400, "each partition once");
}
