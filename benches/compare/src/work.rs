//! The three ways of asking: a statement a query through one client, all queries inside one
//! statement, and several clients at once.

use std::ops::Range;

use anyhow::Result;
use postgres::types::ToSql;
use postgres::{Client, Statement};

use crate::clock::Backend;
use crate::data::Vectors;
use crate::server::{demand_index, touched};
use crate::side::Setting;
use crate::sweep::Work;
use crate::wire::Vector;

/// The vectors of a set as parameters.
pub fn parameters(queries: &Vectors, count: usize) -> Vec<Vector> {
    queries.iter().take(count).map(Vector::new).collect()
}

/// A prepared statement a query, binary both ways.
pub struct Single {
    client: Client,
    backend: Backend,
    sql: String,
    statement: Statement,
    queries: Vec<Vector>,
}

impl Single {
    /// `sql` has the query's vector as `$1` and gives ids.
    pub fn new(mut client: Client, sql: String, queries: Vec<Vector>) -> Result<Self> {
        let statement = client.prepare(&sql)?;
        let backend = Backend::of(&mut client)?;
        Ok(Self { client, backend, sql, statement, queries })
    }

    /// Fails where no index answers.
    pub fn checked(mut self) -> Result<Self> {
        demand_index(&mut self.client, &self.sql, &[&self.queries[0]])?;
        Ok(self)
    }

    fn ask(&mut self, number: usize) -> Result<Vec<i64>> {
        let rows = self.client.query(&self.statement, &[&self.queries[number]])?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Buffers that one query touches, and how many of them it reads.
    pub fn touched(&mut self, number: usize) -> Result<(f64, f64)> {
        touched(&mut self.client, &self.sql, &[&self.queries[number]])
    }
}

impl Work for Single {
    fn set(&mut self, setting: &Setting) -> Result<()> {
        Ok(self.client.batch_execute(&setting.sql)?)
    }

    fn answers(&mut self, range: Range<usize>) -> Result<Vec<Vec<i64>>> {
        range.map(|number| self.ask(number)).collect()
    }

    fn pages(&mut self, range: Range<usize>) -> Result<Option<f64>> {
        let count = range.len() as f64;
        let mut pages = 0.0;
        for number in range {
            pages += self.touched(number)?.0;
        }
        Ok(Some(pages / count))
    }

    fn backends(&self) -> Vec<Backend> {
        vec![self.backend]
    }
}

/// Many queries inside one statement. What is timed returns one row, so that neither statements
/// nor rows sent hide the index.
pub struct Lateral {
    client: Client,
    backend: Backend,
    answers: Statement,
    timed: Statement,
    timed_sql: String,
}

impl Lateral {
    /// The `k` nearest rows of `table` for the queries of another table.
    pub fn new(
        mut client: Client,
        table: &str,
        queries: &str,
        operator: &str,
        k: usize,
    ) -> Result<Self> {
        let from = format!(
            "FROM {queries} q CROSS JOIN LATERAL
             (SELECT id FROM {table} ORDER BY v {operator} q.v LIMIT {k}) r
             WHERE q.id >= $1 AND q.id < $2"
        );
        let answers = client.prepare(&format!("SELECT q.id, r.id {from}"))?;
        let timed_sql = format!("SELECT count(*), sum(r.id)::text {from}");
        let timed = client.prepare(&timed_sql)?;
        demand_index(&mut client, &timed_sql, &[&0, &10])?;
        let backend = Backend::of(&mut client)?;
        Ok(Self { client, backend, answers, timed, timed_sql })
    }
}

fn bounds(range: &Range<usize>) -> [i32; 2] {
    [range.start as i32, range.end as i32]
}

impl Work for Lateral {
    fn set(&mut self, setting: &Setting) -> Result<()> {
        Ok(self.client.batch_execute(&setting.sql)?)
    }

    fn answers(&mut self, range: Range<usize>) -> Result<Vec<Vec<i64>>> {
        let [from, to] = bounds(&range);
        let mut answers = vec![Vec::new(); range.len()];
        for row in self.client.query(&self.answers, &[&from, &to])? {
            answers[row.get::<_, i32>(0) as usize - range.start].push(row.get(1));
        }
        Ok(answers)
    }

    fn run(&mut self, range: Range<usize>) -> Result<()> {
        let [from, to] = bounds(&range);
        self.client.query_one(&self.timed, &[&from, &to])?;
        Ok(())
    }

    fn pages(&mut self, range: Range<usize>) -> Result<Option<f64>> {
        let [from, to] = bounds(&range);
        let parameters: [&(dyn ToSql + Sync); 2] = [&from, &to];
        let (pages, _) = touched(&mut self.client, &self.timed_sql, &parameters)?;
        Ok(Some(pages / range.len() as f64))
    }

    fn backends(&self) -> Vec<Backend> {
        vec![self.backend]
    }
}

/// Several clients that share the queries of a block among them.
pub struct Together(pub Vec<Single>);

impl Work for Together {
    fn set(&mut self, setting: &Setting) -> Result<()> {
        self.0.iter_mut().try_for_each(|client| client.set(setting))
    }

    fn answers(&mut self, range: Range<usize>) -> Result<Vec<Vec<i64>>> {
        let each = range.len().div_ceil(self.0.len());
        let parts = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (number, client) in self.0.iter_mut().enumerate() {
                let start = (range.start + number * each).min(range.end);
                let part = start..(start + each).min(range.end);
                threads.push(scope.spawn(move || client.answers(part)));
            }
            let joined = threads.into_iter().map(|thread| thread.join().expect("no panic"));
            joined.collect::<Result<Vec<_>>>()
        })?;
        Ok(parts.concat())
    }

    fn pages(&mut self, _range: Range<usize>) -> Result<Option<f64>> {
        Ok(None)
    }

    fn backends(&self) -> Vec<Backend> {
        self.0.iter().map(|client| client.backend).collect()
    }
}
