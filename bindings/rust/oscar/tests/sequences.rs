//! Sequences and steps: fork, truncate, accept, commit, abort, drop.

mod support;

use oscar::{Attend, Cache, Entry, ErrorKind, Result, Sequence};
use support::*;

fn cache_with(rows: &Rows, profile: &str) -> (Cache, Sequence) {
    let mut cache = Cache::new(&small_config(profile).max_open_steps(2)).unwrap();
    let sequence = cache.open().unwrap();
    feed(&mut cache, sequence, rows, 50).unwrap();
    (cache, sequence)
}

#[test]
fn a_fork_shares_blocks_and_goes_its_own_way() {
    let (mut cache, parent) = cache_with(&Rows::new(1, 400), "2bit");
    let before = cache.stats().unwrap();
    let child = cache.fork(parent, 400).unwrap();
    assert_ne!(child, parent);
    let after = cache.stats().unwrap();
    assert_eq!((after.n_sequences, after.n_blocks), (2, before.n_blocks), "blocks are shared");
    assert_eq!(read_all(&cache, child).unwrap(), read_all(&cache, parent).unwrap());
    let (one, other) = (Rows::new(2, 1), Rows::new(3, 1));
    let same = feed(&mut cache, parent, &one, 1).unwrap();
    assert_ne!(feed(&mut cache, child, &other, 1).unwrap(), same);
    cache.close(parent).unwrap();
    assert_eq!(cache.length(child).unwrap(), 401);
}

#[test]
fn truncated_drafts_leave_no_trace() {
    let rows = Rows::new(4, 300);
    let (mut cache, drafted) = cache_with(&rows, "2bit");
    let untouched = cache.fork(drafted, 300).unwrap();
    let drafts = Rows::new(5, 5);
    let mut out = vec![0.0; 5 * Q];
    let mut step = cache.begin(&[Entry::new(drafted, 5).n_draft(4)]).unwrap();
    step.layer(0, drafts.k(), drafts.v(), Attend::new(drafts.q(), drafts.out(&mut out))).unwrap();
    step.end().unwrap();
    assert_eq!(cache.length(drafted).unwrap(), 305);
    cache.truncate(drafted, 301).unwrap();
    let first = drafts.slice(0, 1);
    assert_eq!(feed(&mut cache, untouched, &first, 1).unwrap(), out[..Q]);
    assert_eq!(read_all(&cache, drafted).unwrap(), read_all(&cache, untouched).unwrap());
    let next = Rows::new(6, 1);
    assert_eq!(feed(&mut cache, drafted, &next, 1).unwrap(), feed(&mut cache, untouched, &next, 1).unwrap());
}

#[test]
fn an_accepted_path_moves_together() {
    let rows = Rows::new(7, 14);
    let (mut cache, sequence) = cache_with(&rows.slice(0, 10), "exact");
    let tree = rows.slice(10, 14);
    let mut out = vec![0.0; 4 * Q];
    let mut step = cache.begin(&[Entry::new(sequence, 4).n_draft(4)]).unwrap();
    step.layer(0, tree.k(), tree.v(), Attend::new(tree.q(), tree.out(&mut out))).unwrap();
    step.end().unwrap();
    cache.accept(sequence, 10, &[0, 2, 3]).unwrap();
    assert_eq!(cache.length(sequence).unwrap(), 13);
    let (k, _) = read_all(&cache, sequence).unwrap();
    let wanted = bf16(&rows.k);
    assert_eq!(k[..11 * KV], wanted[..11 * KV]);
    assert_eq!(k[11 * KV..], wanted[12 * KV..]);
    let descending = cache.accept(sequence, 10, &[1, 0]).unwrap_err();
    assert_eq!(descending.kind(), ErrorKind::Invalid);
    cache.accept(sequence, 12, &[]).unwrap();
    assert_eq!(cache.length(sequence).unwrap(), 12);
}

#[test]
fn a_dropped_step_is_aborted() {
    let rows = Rows::new(8, 20);
    let (mut cache, sequence) = cache_with(&rows, "2bit");
    let before = contents(&cache);
    let new = Rows::new(9, 3);
    {
        let mut step = cache.begin(&[Entry::new(sequence, 3)]).unwrap();
        step.append(0, new.k(), new.v()).unwrap();
        assert_eq!(step.cache().stats().unwrap().n_open_steps, 1);
    }
    assert_eq!(contents(&cache), before);
    cache.begin(&[Entry::new(sequence, 3)]).unwrap().abort().unwrap();
    assert_eq!(contents(&cache), before);

    // Also where an error returns early.
    fn early(cache: &mut Cache, sequence: Sequence) -> Result<()> {
        let mut step = cache.begin(&[Entry::new(sequence, 3)])?;
        let two_rows = Rows::new(9, 2);
        step.append(0, two_rows.k(), two_rows.v())?;
        step.end()
    }
    assert_eq!(early(&mut cache, sequence).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(contents(&cache), before);
}

#[test]
fn a_step_that_lacks_a_layer_does_not_end() {
    let rows = Rows::new(10, 3);
    let (mut cache, sequence) = cache_with(&Rows::new(8, 20), "2bit");
    let step = cache.begin(&[Entry::new(sequence, 3)]).unwrap();
    assert_eq!(step.end().unwrap_err().kind(), ErrorKind::State);
    assert_eq!(cache.stats().unwrap().n_open_steps, 0, "a failed end() aborts");

    let mut step = cache.begin(&[Entry::new(sequence, 3)]).unwrap();
    assert_eq!(step.try_end().unwrap_err().kind(), ErrorKind::State);
    step.append(0, rows.k(), rows.v()).unwrap();
    step.try_end().unwrap();
    assert_eq!(step.try_end().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(step.append(0, rows.k(), rows.v()).unwrap_err().kind(), ErrorKind::NotFound);
    drop(step);
    assert_eq!(cache.length(sequence).unwrap(), 23, "dropping an ended step takes nothing back");
}

#[test]
fn two_steps_may_be_open_beside_one_another() {
    let (one_rows, other_rows) = (Rows::new(11, 2), Rows::new(12, 3));
    let (mut cache, one) = cache_with(&Rows::new(8, 20), "2bit");
    let other = cache.open().unwrap();
    let first = cache.begin(&[Entry::new(one, 2)]).unwrap().suspend();
    assert_eq!(cache.stats().unwrap().n_open_steps, 1);
    assert_eq!(cache.begin(&[Entry::new(one, 1)]).unwrap_err().kind(), ErrorKind::State);

    let mut second = cache.begin(&[Entry::new(other, 3)]).unwrap();
    second.append(0, other_rows.k(), other_rows.v()).unwrap();
    let second = second.suspend();
    let mut first = cache.resume(first).unwrap();
    assert_eq!(first.n_rows(), 2);
    first.append(0, one_rows.k(), one_rows.v()).unwrap();
    first.end().unwrap();
    cache.resume(second).unwrap().end().unwrap();
    assert_eq!((cache.length(one).unwrap(), cache.length(other).unwrap()), (22, 3));
}

#[test]
fn a_cache_may_be_dropped_with_sequences_and_steps_open() {
    let (mut cache, sequence) = cache_with(&Rows::new(13, 200), "2bit");
    cache.fork(sequence, 100).unwrap();
    let open = cache.begin(&[Entry::new(sequence, 1)]).unwrap().suspend();
    drop(cache);
    // What is left are numbers, of no use to another cache.
    let (mut cache, _) = cache_with(&Rows::new(13, 20), "2bit");
    assert_eq!(cache.resume(open).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn sequences_of_another_cache_are_refused() {
    let (mut one, sequence) = cache_with(&Rows::new(14, 20), "2bit");
    let (mut other, same_number) = cache_with(&Rows::new(15, 20), "2bit");
    assert_eq!(sequence.id(), same_number.id(), "numbers alone would not tell");
    let errors = [
        other.close(sequence).unwrap_err(),
        other.fork(sequence, 1).unwrap_err(),
        other.truncate(sequence, 1).unwrap_err(),
        other.accept(sequence, 0, &[0]).unwrap_err(),
        other.length(sequence).unwrap_err(),
        other.read(sequence, 0, 0, 0..1, None, None).unwrap_err(),
        other.begin(&[Entry::new(sequence, 1)]).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.text().contains("another cache"), "{error}");
    }
    assert_eq!(one.length(one.sequence(sequence.id())).unwrap(), 20);
    one.close(sequence).unwrap();
}

#[test]
fn a_closed_sequence_is_not_found_and_its_number_not_reused() {
    let (mut cache, sequence) = cache_with(&Rows::new(16, 20), "2bit");
    cache.close(sequence).unwrap();
    assert_eq!(cache.close(sequence).unwrap_err().kind(), ErrorKind::NotFound);
    let next = cache.open().unwrap();
    assert_ne!(next, sequence);
    assert_eq!(cache.length(sequence).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_cache_moves_between_threads_and_is_looked_at_by_several() {
    fn assert_send<T: Send>() {}
    fn assert_sync<T: Sync>() {}
    assert_send::<Cache>();
    assert_sync::<Cache>();
    assert_send::<oscar::Step<'static>>();
    assert_send::<oscar::Config>();
    assert_send::<oscar::Calibration>();
    assert_sync::<oscar::Calibration>();
    assert_send::<oscar::Error>();
    assert_sync::<oscar::Error>();

    let (cache, sequence) = cache_with(&Rows::new(17, 300), "2bit");
    let (cache, wanted) = std::thread::spawn(move || {
        let wanted = read_all(&cache, sequence);
        (cache, wanted.unwrap())
    })
    .join()
    .unwrap();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..20 {
                        assert_eq!(read_all(&cache, sequence).unwrap(), wanted);
                        assert_eq!(cache.stats().unwrap().n_tokens, 300);
                    }
                })
            })
            .collect();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}
