//! Backfilling what is there, chunk by chunk, while the application writes on; then catching up with what it wrote.

use std::sync::mpsc::sync_channel;
use std::time::Instant;

use crate::mapping::stream::Stream;
use crate::mapping::{self, Way, map_key};
use crate::plan::{Kind, Plan, Table, TablePlan};
use crate::store::{Chunk, Mode, Phase, Store};
use crate::value::{Batch, Key, values_of};

use super::{Error, Event, Result, Run, drain, in_place, looking, sums, within};

/// Copies every table. Each chunk's rows commit together with the chunk's record, so that a killed backfill goes on after its last
/// whole chunk. No drain runs meanwhile (P6).
pub(crate) fn backfill(run: &mut Run) -> Result<Phase> {
    let done = run.target.chunks(&run.id)?;
    run.ahead = sums::Ahead::begin(run);
    let mut reader = run.source.again()?;
    for i in 0..run.plan.tables.len() {
        let so_far = done.iter().find(|(t, _)| *t == i).map(|(_, c)| c.clone()).unwrap_or_default();
        if !so_far.done {
            copy_table(run, reader.as_mut(), i, so_far)?;
        }
    }
    run.enter(Phase::CatchingUp)
}

/// Rows in a chunk where the application writes the same file.
const IN_ONE_FILE: usize = 1_000;

/// A reader thread scans and maps, this one writes: two chunks are in flight at most.
fn copy_table(run: &mut Run, reader: &mut dyn Store, i: usize, so_far: Chunk) -> Result<()> {
    let plan = run.plan.clone();
    let (table, givers) = (&plan.tables[i], Way::Up.givers(&plan));
    let epoch = run.source_state()?.epoch;
    // a file has one writer, and the application waits for each chunk
    let shares = plan.in_place() && plan.to.kind == Kind::Sqlite;
    let batch = if shares { run.settings.batch.min(IN_ONE_FILE) } else { run.settings.batch };
    let (send, receive) = sync_channel::<Result<(Batch, Option<Vec<u8>>)>>(1);
    let start = so_far.upto.clone();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let (send, mut after) = (send, start);
            loop {
                let chunk = read_chunk(reader, table, &givers, &after, batch);
                let next = chunk.as_ref().ok().and_then(|(_, next)| next.clone());
                if send.send(chunk).is_err() {
                    return;
                }
                match next {
                    Some(next) => after = next,
                    None => return,
                }
            }
        });
        // dropped with this closure, whatever ends it, so that the reader is not left waiting
        let (receive, mut chunk) = (receive, so_far);
        while let Ok(read) = receive.recv() {
            let (rows, next) = read?;
            run.go_on()?;
            let begun = Instant::now();
            chunk = Chunk {
                n: chunk.n + 1,
                rows: chunk.rows + rows.len() as u64,
                done: next.is_none(),
                upto: next.unwrap_or_default(),
            };
            let id = run.id.clone();
            within(
                run.target.as_mut(),
                Mode::Write,
                &[],
                &format!("target: chunk {} of {}", chunk.n, table.target.name),
                |t| {
                    let state = t.state()?.filter(|s| s.run == id && s.epoch == epoch);
                    state.ok_or_else(|| Error::Internal("the target belongs to another run by now".into()))?;
                    t.load(&table.target, &rows)?;
                    doubt_left_out(t, &plan, i)?;
                    Ok(t.put_chunk(&id, i, &chunk)?)
                },
            )?;
            if shares {
                // whoever asks for the file now and then must find it free
                std::thread::sleep(begun.elapsed() / 2);
            }
            run.observer.event(Event::Progress {
                what: "copying",
                table: table.source.title().to_owned(),
                done: chunk.rows,
                total: run.counts.get(i).copied().unwrap_or(chunk.rows).max(chunk.rows),
            });
        }
        Ok(())
    })
}

/// Rows that stood in each other's way, in a target with its unique indexes: they were read at different moments, and are looked at again
/// by the first drain. In place its log is in the same store, and told in the same transaction.
fn doubt_left_out(target: &mut dyn Store, plan: &Plan, i: usize) -> Result<()> {
    let left = target.left_out();
    if left.is_empty() {
        return Ok(());
    }
    let t = &plan.tables[i];
    let keys = left.iter().map(|k| map_key(Way::Down, t, k)).collect::<std::result::Result<Vec<Key>, _>>();
    Ok(target.doubt(&Way::Up.givers(plan), i, &keys.map_err(Error::Misfit)?)?)
}

/// One chunk, mapped. The look comes after the read: whatever made it doubtful is seen before the chunk counts (P15).
fn read_chunk(
    source: &mut dyn Store,
    table: &TablePlan,
    givers: &[&Table],
    after: &[u8],
    limit: usize,
) -> Result<(Batch, Option<Vec<u8>>)> {
    let mut read = Batch::default();
    let next = source.scan(&table.source, after, limit, &mut read)?;
    if source.kind() != Kind::Json {
        looking(source, givers, |s| Ok(s.look(givers)?))?;
    }
    let mut mapped = Batch::default();
    let mut stream = Stream::exact(Way::Up, table);
    let staying = table.staying();
    mapping::ahead(Way::Up, table, |i| read.rows().map(|row| row[i].clone().into_owned()).collect());
    for row in read.encoded() {
        if !staying.is_empty() && staying.contains(&Key::of_row(&values_of(row), &table.source.key)) {
            continue;
        }
        stream.map(row, mapped.buffer()).map_err(Error::Misfit)?;
        mapped.end_row();
    }
    Ok((mapped, next))
}

/// Keys first, then what was written meanwhile, then all other constraints, then what was written during that. PostgreSQL builds
/// indexes beside readers, so both sides are compared meanwhile; the target is sealed by then, and nobody but us writes it.
pub(crate) fn catch_up(run: &mut Run) -> Result<Phase> {
    let (plan, id) = (run.plan.clone(), run.id.clone());
    let tables = Way::Up.receivers(&plan);
    within(run.target.as_mut(), Mode::Write, &tables, "target: sealed", |s| Ok(s.seal(&tables, &id)?))?;
    if run.settings.verify && run.target.kind() == Kind::Postgres {
        run.early = sums::beside(run, build)?;
    } else {
        build(run)?;
    }
    run.enter(Phase::Verifying)
}

/// The index that becomes the key, and beside it, in another session, those that refuse no row. What cannot be built so, as a key
/// of rows that were read twice, is built by what follows, which says what is wrong with it.
fn build_early(run: &mut Run, table: &Table) -> Result<()> {
    let mut second = run.target.again()?;
    let first = run.target.as_mut();
    second.begin(Mode::Write, &[])?;
    first.begin(Mode::Write, &[])?;
    let built = std::thread::scope(|threads| {
        let beside = threads.spawn(|| second.build_early(table, false));
        let key = first.build_early(table, true);
        key.is_ok() && beside.join().is_ok_and(|b| b.is_ok())
    });
    if !built {
        first.rollback();
        second.rollback();
        return Ok(());
    }
    // neither can become a constraint before the other has let the table go
    first.commit(&format!("target: index for the key of {}", table.name))?;
    Ok(second.commit(&format!("target: indexes of {}", table.name))?)
}

/// True if nothing had to be carried.
fn build(run: &mut Run) -> Result<bool> {
    let plan = run.plan.clone();
    let tables = Way::Up.receivers(&plan);
    for t in &plan.tables {
        if run.target.builds_early(&t.target) {
            build_early(run, &t.target)?;
        }
        within(run.target.as_mut(), Mode::Write, &[], &format!("target: key of {}", t.target.name), |s| {
            Ok(s.build_key(&t.target)?)
        })?;
        run.go_on()?;
    }
    let carried = drain::until_close(run, Way::Up)?;
    within(run.target.as_mut(), Mode::Write, &tables, "target: indexes and constraints", |s| {
        Ok(s.build_rest(&tables)?)
    })?;
    if plan.in_place() {
        in_place::dress(run)?;
    }
    Ok(carried + drain::until_close(run, Way::Up)? == 0)
}
