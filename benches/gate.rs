//! What writer schemas cost: admission of a run of one version, of two versions that take turns record by record, and of many made-up ids.
//!
//! The rule (docs/schemas.md): two versions in turn cost at most 1.3 times one, the dearer of the two. Timed is all of admission: frame, gate,
//! inspection, one decoder for each id, rows put back in offset order, keys, times.

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use testudo::engine::admit::Admission;
use testudo::tenant::Tenant;

mod zoo;

use zoo::{FIRST, RECORDS, SECOND};

fn admission(tenant: &Arc<Tenant>) -> Admission {
    Admission::new(tenant.clone(), 0, zoo::gate(tenant))
}

fn admit(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tenant = zoo::tenant(folder.path());
    let mut group = criterion.benchmark_group("admit");
    group.throughput(Throughput::Elements(RECORDS as u64));
    let runs = [
        ("one version", zoo::run(|_| FIRST)),
        ("the other version", zoo::run(|_| SECOND)),
        ("two versions in turn", zoo::run(|record| if record.is_multiple_of(2) { FIRST } else { SECOND })),
        ("every tenth id made up", zoo::run(|record| if record.is_multiple_of(10) { 1_000 + record as u32 / 100 } else { FIRST })),
    ];
    for (name, run) in &runs {
        let mut admission = admission(&tenant);
        // Ids become known: until then the run stops at the first that is not.
        while admission.admit(run, 1).expect("admitted").waiting_at.is_some() {}
        group.bench_function(*name, |bencher| bencher.iter(|| admission.admit(run, 1).expect("admitted").rows.num_rows()));
    }
    group.finish();
}

criterion_group!(benches, admit);
criterion_main!(benches);
