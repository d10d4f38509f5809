//! Several tables of a plan that are one table of the store, each having some of its rows; and columns that a store does not have,
//! whose values are the same in every row. Made of what every store can do, so that none has to know of it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::{
    Chunk, Entry, Error, HistoryLine, LogSize, Mode, Parked, Position, Result, Role, Schema, Site, State, Store, Write,
};
use crate::plan::{Column, Fixed, Kind, Lone, Pair, Table, Teller};
use crate::value::{Batch, Key, Row, Value};

/// The same store for plans in which tables are slices of one another.
pub(super) fn over(inner: Box<dyn Store>) -> Box<dyn Store> {
    Box::new(Sliced { inner })
}

struct Sliced {
    inner: Box<dyn Store>,
}

fn is_sliced(table: &Table) -> bool {
    table.only.is_some() || !table.constants.is_empty()
}

fn value(literal: &str) -> Value<'static> {
    crate::mapping::reshape::constant(literal).unwrap_or(Value::Null)
}

/// What of a table's rows is in this slice.
struct Slice {
    whole: Table,
    only: Option<(usize, Value<'static>)>,
    constants: Vec<(usize, Value<'static>)>,
}

impl Slice {
    fn of(table: &Table) -> Slice {
        let fixed = |f: &Fixed| (f.column, value(&f.value));
        Slice {
            whole: table.whole(),
            only: table.only.as_ref().map(fixed),
            constants: table.constants.iter().map(fixed).collect(),
        }
    }

    /// A row of the store as the plan's table has it, if it is in the slice.
    fn given(&self, mut row: Row) -> Option<Row> {
        for (at, value) in &self.constants {
            row.insert((*at).min(row.len()), value.clone());
        }
        self.only.as_ref().is_none_or(|(at, v)| row.get(*at) == Some(v)).then_some(row)
    }

    /// A row of the plan's table as the store takes it; or why it cannot be there.
    fn taken(&self, table: &Table, row: &Row) -> std::result::Result<Row, String> {
        if let Some((at, c)) = self.constants.iter().find(|(at, c)| row.get(*at) != Some(c)) {
            let (column, v) = (&table.columns[*at].name, &row[*at]);
            return Err(format!("column {column} cannot hold {v} here: each of these rows has {c}"));
        }
        if self.only.as_ref().is_some_and(|(at, v)| row.get(*at) != Some(v)) {
            return Err("it belongs to another of the tables that are one here".into());
        }
        let fixed = |at: usize| self.constants.iter().any(|(c, _)| *c == at);
        Ok(row.iter().enumerate().filter(|(at, _)| !fixed(*at)).map(|(_, v)| v.clone()).collect())
    }
}

/// The store's tables for a plan's, each once; and for each of the plan's which of them it is.
struct Group {
    tables: Vec<Table>,
    of: Vec<usize>,
}

impl Group {
    fn refs(&self) -> Vec<&Table> {
        self.tables.iter().collect()
    }
    /// What the store says of each of its tables, for each of the plan's.
    fn spread<T: Clone>(&self, each: &[T]) -> Vec<T> {
        self.of.iter().filter_map(|&u| each.get(u).cloned()).collect()
    }
}

/// `None` where nothing is sliced.
fn group(tables: &[&Table]) -> Option<Group> {
    if !tables.iter().any(|t| is_sliced(t)) {
        return None;
    }
    let (mut out, mut of): (Vec<Table>, Vec<usize>) = (Vec::new(), Vec::new());
    for table in tables {
        let known = out.iter().position(|t| t.name == table.name);
        of.push(known.unwrap_or(out.len()));
        if known.is_none() {
            out.push(table.whole());
        }
    }
    Some(Group { tables: out, of })
}

/// `$call` with the store's own tables in place of `$tables`.
macro_rules! each_once {
    ($self:ident, $tables:ident, $list:ident => $call:expr) => {
        match group($tables) {
            None => {
                let $list: &[&Table] = $tables;
                $call
            }
            Some(group) => {
                let $list: &[&Table] = &group.refs();
                $call
            }
        }
    };
}

impl Store for Sliced {
    fn kind(&self) -> Kind {
        self.inner.kind()
    }

    fn title(&self) -> String {
        self.inner.title()
    }

    fn identity(&mut self) -> Result<String> {
        self.inner.identity()
    }

    fn again(&self) -> Result<Box<dyn Store>> {
        Ok(over(self.inner.again()?))
    }

    fn lock(&mut self, wait: Duration) -> Result<()> {
        self.inner.lock(wait)
    }

    fn stand(&mut self, role: Role, site: Site) {
        self.inner.stand(role, site);
    }

    fn standing(&self) -> (Role, Site) {
        self.inner.standing()
    }

    fn schema(&mut self) -> Result<Schema> {
        self.inner.schema()
    }

    fn scan(&mut self, table: &Table, after: &[u8], limit: usize, out: &mut Batch) -> Result<Option<Vec<u8>>> {
        if !is_sliced(table) {
            return self.inner.scan(table, after, limit, out);
        }
        let (slice, mut all) = (Slice::of(table), Batch::default());
        let next = self.inner.scan(&slice.whole, after, limit, &mut all)?;
        for row in all.rows() {
            let row: Row = row.into_iter().map(Value::into_owned).collect();
            slice.given(row).iter().for_each(|row| out.push(row));
        }
        Ok(next)
    }

    fn count(&mut self, table: &Table) -> Result<u64> {
        if table.only.is_none() {
            return self.inner.count(&table.whole());
        }
        let (mut rows, mut after, mut n) = (Batch::default(), Vec::new(), 0);
        while let Some(next) = self.scan(table, &after, 10_000, &mut rows)? {
            n += rows.len() as u64;
            rows.clear();
            after = next;
        }
        Ok(n + rows.len() as u64)
    }

    fn self_check(&mut self, tables: &[&Table], deep: bool) -> Result<Vec<String>> {
        each_once!(self, tables, list => self.inner.self_check(list, deep))
    }

    fn strays(&mut self, table: &Table, columns: &[String], limit: usize) -> Result<Vec<Key>> {
        self.inner.strays(&table.whole(), columns, limit)
    }

    fn dangling(&mut self, table: &Table, column: &str, limit: usize) -> Result<Row> {
        self.inner.dangling(&table.whole(), column, limit)
    }

    fn begin(&mut self, mode: Mode, tables: &[&Table]) -> Result<()> {
        each_once!(self, tables, list => self.inner.begin(mode, list))
    }

    fn hold(&mut self) -> Result<()> {
        self.inner.hold()
    }

    fn commit(&mut self, what: &str) -> Result<()> {
        self.inner.commit(what)
    }

    fn rollback(&mut self) {
        self.inner.rollback();
    }

    fn fetch(&mut self, table: &Table, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        if !is_sliced(table) {
            return self.inner.fetch(table, keys);
        }
        let slice = Slice::of(table);
        let rows = self.inner.fetch(&slice.whole, keys)?;
        Ok(rows.into_iter().map(|row| slice.given(row?)).collect())
    }

    fn keys(&mut self, table: &Table) -> Result<Vec<Key>> {
        if table.only.is_none() {
            return self.inner.keys(&table.whole());
        }
        let all = self.inner.keys(&table.whole())?;
        let rows = self.fetch(table, &all)?;
        Ok(all.into_iter().zip(rows).filter_map(|(key, row)| row.map(|_| key)).collect())
    }

    fn write(&mut self, tables: &[&Table], writes: &[(usize, Vec<Write>)]) -> Result<()> {
        let Some(group) = group(tables) else { return self.inner.write(tables, writes) };
        let mut sets: Vec<Vec<Write>> = vec![Vec::new(); group.tables.len()];
        let mut whose: HashMap<(usize, Key), usize> = HashMap::new();
        let mut unfit = Vec::new();
        for (t, list) in writes {
            let (slice, u) = (Slice::of(tables[*t]), group.of[*t]);
            for write in list {
                let key = match write {
                    Write::Put { row, .. } => Key::of_row(row, &tables[*t].key),
                    Write::Delete { key } => key.clone(),
                };
                match write {
                    Write::Put { row, from } => match slice.taken(tables[*t], row) {
                        Ok(row) => sets[u].push(Write::Put { row, from: from.clone() }),
                        Err(why) => {
                            let why = format!("table {}, key {key}: {why}", tables[*t].title());
                            unfit.push((*t, key, why));
                            continue;
                        }
                    },
                    Write::Delete { .. } => sets[u].push(write.clone()),
                }
                // a put says more of a key than that the row left another slice
                if matches!(write, Write::Put { .. }) || !whose.contains_key(&(u, key.clone())) {
                    whose.insert((u, key), *t);
                }
            }
        }
        unfit.extend(self.taken_keys(tables, writes, &group)?);
        if !unfit.is_empty() {
            return Err(Error::Unfit { store: self.title(), rows: unfit });
        }
        for (u, set) in sets.iter_mut().enumerate() {
            let key = &group.tables[u].key;
            let put: HashSet<Key> = set
                .iter()
                .filter_map(|w| if let Write::Put { row, .. } = w { Some(Key::of_row(row, key)) } else { None })
                .collect();
            set.retain(|w| !matches!(w, Write::Delete { key } if put.contains(key)));
        }
        let sets: Vec<(usize, Vec<Write>)> = sets.into_iter().enumerate().filter(|(_, set)| !set.is_empty()).collect();
        self.inner.write(&group.refs(), &sets).map_err(|e| match e {
            Error::Unfit { store, rows } => {
                let of = |u: usize, key: &Key| {
                    let first = || group.of.iter().position(|x| *x == u).unwrap_or(u);
                    whose.get(&(u, key.clone())).copied().unwrap_or_else(first)
                };
                let rows = rows.into_iter().map(|(u, key, why)| (of(u, &key), key, why)).collect();
                Error::Unfit { store, rows }
            }
            e => e,
        })
    }

    fn may_create(&mut self, tables: &[&Table]) -> Result<()> {
        each_once!(self, tables, list => self.inner.may_create(list))
    }

    fn may_record(&mut self) -> Result<()> {
        self.inner.may_record()
    }

    fn lingering(&mut self, tables: &[&Table]) -> Result<Vec<String>> {
        each_once!(self, tables, list => self.inner.lingering(list))
    }

    fn create(&mut self, tables: &[&Table]) -> Result<()> {
        each_once!(self, tables, list => self.inner.create(list))
    }

    fn load(&mut self, table: &Table, rows: &Batch) -> Result<()> {
        if table.constants.is_empty() {
            return self.inner.load(&table.whole(), rows);
        }
        let (slice, mut mine) = (Slice::of(table), Batch::default());
        for row in rows.rows() {
            let row: Row = row.into_iter().map(Value::into_owned).collect();
            let key = Key::of_row(&row, &table.key);
            let row = slice.taken(table, &row).map_err(|why| Error::Unfit {
                store: self.title(),
                rows: vec![(0, key.clone(), format!("table {}, key {key}: {why}", table.title()))],
            })?;
            mine.push(&row);
        }
        self.inner.load(&slice.whole, &mine)
    }

    fn left_out(&mut self) -> Vec<Key> {
        self.inner.left_out()
    }

    fn builds_early(&self, table: &Table) -> bool {
        !is_sliced(table) && self.inner.builds_early(table)
    }

    fn build_early(&mut self, table: &Table, key: bool) -> Result<()> {
        self.inner.build_early(table, key)
    }

    fn build_key(&mut self, table: &Table) -> Result<()> {
        self.inner.build_key(&table.whole())
    }

    fn build_rest(&mut self, tables: &[&Table]) -> Result<()> {
        each_once!(self, tables, list => self.inner.build_rest(list))
    }

    fn may_say(&mut self, expression: &str, from: &Column, to: &Column, strict: bool) -> Result<()> {
        self.inner.may_say(expression, from, to, strict)
    }

    fn teller(&self, was: &Column, is: &Column, up: &str, down: &str, strict: bool) -> Teller {
        self.inner.teller(was, is, up, down, strict)
    }

    fn may_swap(&mut self, sources: &[&Table], targets: &[&Table]) -> Result<Vec<String>> {
        match paired(sources, targets) {
            None => self.inner.may_swap(sources, targets),
            Some((s, t)) => self.inner.may_swap(&s.iter().collect::<Vec<_>>(), &t.iter().collect::<Vec<_>>()),
        }
    }

    fn dress(&mut self, sources: &[&Table], targets: &[&Table]) -> Result<()> {
        match paired(sources, targets) {
            None => self.inner.dress(sources, targets),
            Some((s, t)) => self.inner.dress(&s.iter().collect::<Vec<_>>(), &t.iter().collect::<Vec<_>>()),
        }
    }

    fn before_swap(&mut self, out: &[&Table], aside: &Site, home: &[&Table], from: &Site) -> Result<()> {
        each_once!(self, out, out => each_once!(self, home, home => self.inner.before_swap(out, aside, home, from)))
    }

    fn swap(&mut self, out: &[&Table], aside: &Site, home: &[&Table], from: &Site) -> Result<()> {
        each_once!(self, out, out => each_once!(self, home, home => self.inner.swap(out, aside, home, from)))
    }

    fn thin(&mut self, tables: &[&Table]) -> Result<bool> {
        each_once!(self, tables, list => self.inner.thin(list))
    }

    fn drop_tables(&mut self, tables: &[&Table]) -> Result<()> {
        each_once!(self, tables, list => self.inner.drop_tables(list))
    }

    fn set_aside(&mut self, tables: &[&Table], run: &str) -> Result<String> {
        each_once!(self, tables, list => self.inner.set_aside(list, run))
    }

    fn capture_on(&mut self, tables: &[&Table], run: &str) -> Result<Position> {
        each_once!(self, tables, list => self.inner.capture_on(list, run))
    }

    fn limit_log(&mut self, entries: u64) {
        self.inner.limit_log(entries);
    }

    fn log_is_full(&mut self) -> Result<bool> {
        self.inner.log_is_full()
    }

    fn capture_off(&mut self, tables: &[&Table]) -> Result<()> {
        each_once!(self, tables, list => self.inner.capture_off(list))
    }

    fn look(&mut self, tables: &[&Table]) -> Result<()> {
        each_once!(self, tables, list => self.inner.look(list))
    }

    /// A change of a table is told of each of its slices: which of them the row is in, or was, is seen when it is looked up.
    fn log_since(&mut self, tables: &[&Table], from: &Position) -> Result<(Vec<Entry>, Position)> {
        let Some(group) = group(tables) else { return self.inner.log_since(tables, from) };
        let (log, position) = self.inner.log_since(&group.refs(), from)?;
        let mut out = Vec::with_capacity(log.len());
        for entry in log {
            let mine = group.of.iter().enumerate().filter(|(_, u)| **u == entry.table);
            out.extend(mine.map(|(table, _)| Entry { table, ..entry.clone() }));
        }
        Ok((out, position))
    }

    fn lag(&mut self, tables: &[&Table], from: &Position) -> Result<u64> {
        each_once!(self, tables, list => self.inner.lag(list, from))
    }

    fn log_size(&mut self, tables: &[&Table]) -> Result<LogSize> {
        each_once!(self, tables, list => self.inner.log_size(list))
    }

    fn mark(&mut self, position: Position) -> Result<Position> {
        self.inner.mark(position)
    }

    fn trim(&mut self, tables: &[&Table], position: &Position) -> Result<()> {
        each_once!(self, tables, list => self.inner.trim(list, position))
    }

    fn doubt(&mut self, tables: &[&Table], table: usize, keys: &[Key]) -> Result<()> {
        let Some(group) = group(tables) else { return self.inner.doubt(tables, table, keys) };
        self.inner.doubt(&group.refs(), group.of[table], keys)
    }

    fn seal(&mut self, tables: &[&Table], run: &str) -> Result<()> {
        each_once!(self, tables, list => self.inner.seal(list, run))
    }

    fn unseal(&mut self, tables: &[&Table]) -> Result<()> {
        each_once!(self, tables, list => self.inner.unseal(list))
    }

    fn high_water(&mut self, tables: &[&Table]) -> Result<Vec<Option<i64>>> {
        let Some(group) = group(tables) else { return self.inner.high_water(tables) };
        Ok(group.spread(&self.inner.high_water(&group.refs())?))
    }

    fn raise_high_water(&mut self, tables: &[&Table], marks: &[Option<i64>]) -> Result<()> {
        let Some(group) = group(tables) else { return self.inner.raise_high_water(tables, marks) };
        let mut highest = vec![None; group.tables.len()];
        for (u, mark) in group.of.iter().zip(marks) {
            highest[*u] = highest[*u].max(*mark);
        }
        self.inner.raise_high_water(&group.refs(), &highest)
    }

    fn prepare(&mut self) -> Result<()> {
        self.inner.prepare()
    }

    fn state(&mut self) -> Result<Option<State>> {
        self.inner.state()
    }

    fn plan(&mut self, run: &str) -> Result<Option<String>> {
        self.inner.plan(run)
    }

    fn put_state(&mut self, state: &State, plan: Option<&str>) -> Result<()> {
        self.inner.put_state(state, plan)
    }

    fn chunks(&mut self, run: &str) -> Result<Vec<(usize, Chunk)>> {
        self.inner.chunks(run)
    }

    fn put_chunk(&mut self, run: &str, table: usize, chunk: &Chunk) -> Result<()> {
        self.inner.put_chunk(run, table, chunk)
    }

    fn keep_images(&mut self, run: &str, drain: u64, at: &str, images: &[(usize, Key, Option<Row>)]) -> Result<()> {
        self.inner.keep_images(run, drain, at, images)
    }

    fn image_drains(&mut self, run: &str) -> Result<Vec<(u64, String)>> {
        self.inner.image_drains(run)
    }

    fn images(&mut self, run: &str, drain: u64) -> Result<Vec<(usize, Key, Option<Row>)>> {
        self.inner.images(run, drain)
    }

    fn parked(&mut self, run: &str) -> Result<Vec<Parked>> {
        self.inner.parked(run)
    }

    fn put_parked(&mut self, run: &str, add: &[Parked], remove: &[(usize, Key)]) -> Result<()> {
        self.inner.put_parked(run, add, remove)
    }

    fn pairs(&mut self, run: &str) -> Result<Vec<Pair>> {
        self.inner.pairs(run)
    }

    fn put_pairs(&mut self, run: &str, pairs: &[Pair]) -> Result<()> {
        self.inner.put_pairs(run, pairs)
    }

    fn history(&mut self) -> Result<Vec<HistoryLine>> {
        self.inner.history()
    }

    fn close(&mut self, tables: &[&Table], line: &HistoryLine) -> Result<()> {
        each_once!(self, tables, list => self.inner.close(list, line))
    }

    fn now(&mut self) -> Result<String> {
        self.inner.now()
    }
}

impl Sliced {
    /// The rows of `writes` that would take the place of another slice's: a key that two of them have is one row here.
    fn taken_keys(
        &mut self,
        tables: &[&Table],
        writes: &[(usize, Vec<Write>)],
        group: &Group,
    ) -> Result<Vec<(usize, Key, String)>> {
        let mut out = Vec::new();
        for (u, whole) in group.tables.iter().enumerate() {
            let mine = || writes.iter().filter(|(t, _)| group.of[*t] == u && tables[*t].only.is_some());
            let (mut leaving, mut puts): (HashSet<Key>, Vec<(usize, Key)>) = Default::default();
            for (t, write) in mine().flat_map(|(t, list)| list.iter().map(move |w| (*t, w))) {
                match write {
                    Write::Delete { key } => drop(leaving.insert(key.clone())),
                    Write::Put { row, from } => {
                        let key = Key::of_row(row, &tables[t].key);
                        leaving.extend(from.clone().filter(|from| *from != key));
                        puts.push((t, key));
                    }
                }
            }
            let keys: Vec<Key> = puts.iter().map(|(_, key)| key.clone()).collect();
            let there = self.inner.fetch(whole, &keys)?;
            let mut put: HashSet<Key> = HashSet::new();
            for ((t, key), row) in puts.into_iter().zip(there) {
                let stays = !leaving.contains(&key);
                if !put.insert(key.clone()) || row.is_some_and(|row| stays && Slice::of(tables[t]).given(row).is_none())
                {
                    let why = format!(
                        "table {}, key {key}: a row that belongs to another of the tables that are one here has this key",
                        tables[t].title()
                    );
                    out.push((t, key, why));
                }
            }
        }
        Ok(out)
    }
}

/// Sources and targets that belong together, each pair of the store's own tables once. `None` where nothing is sliced.
fn paired(sources: &[&Table], targets: &[&Table]) -> Option<(Vec<Table>, Vec<Table>)> {
    if !sources.iter().chain(targets).any(|t| is_sliced(t)) {
        return None;
    }
    let mut out: (Vec<Table>, Vec<Table>) = (Vec::new(), Vec::new());
    for (s, t) in sources.iter().zip(targets) {
        if !out.0.iter().zip(&out.1).any(|(x, y)| x.name == s.name && y.name == t.name) {
            out.0.push(beside(s, t));
            out.1.push(beside(t, s));
        }
    }
    Some(out)
}

/// The store's own table, its columns being those that both of a pair have: what only this one has is `alone`.
fn beside(table: &Table, other: &Table) -> Table {
    let fixed = |t: &Table, column: usize| t.constants.iter().any(|c| c.column == column);
    let shared = |column: usize| !fixed(table, column) && !fixed(other, column);
    let before = |column: usize| (0..column).filter(|c| shared(*c)).count();
    let mut out = table.clone();
    out.columns = (0..table.columns.len()).filter(|c| shared(*c)).map(|c| table.columns[c].clone()).collect();
    out.key = table.key.iter().map(|k| before(*k)).collect();
    out.generated.iter_mut().for_each(|g| g.place = before(g.place));
    out.alone.iter_mut().for_each(|l| l.place = before(l.place));
    let mine = (0..table.columns.len()).filter(|c| !fixed(table, *c) && fixed(other, *c));
    out.alone.extend(mine.map(|c| Lone { column: table.columns[c].clone(), place: before(c) }));
    (out.only, out.constants) = (None, Vec::new());
    out
}
