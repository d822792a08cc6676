//! One connection: takes batches, finds what of them is missing, and adds it in one transaction. A
//! batch that the server refuses for a row's sake is halved until the rows at fault are alone, and
//! all others are in.

use std::collections::HashSet;
use std::error::Error as StdError;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::private::BytesMut;
use postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Transaction};

use crate::item::Item;
use crate::options::Options;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::read;

/// How often a batch is tried again after a fault that passes, and the first pause; each is twice
/// as long as the one before.
const RETRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(200);

pub struct Worker<'a> {
    client: Client,
    plan: &'a Plan,
    options: &'a Options,
    progress: &'a Progress,
}

/// A value in its type's binary form, passed through.
#[derive(Debug)]
struct Binary(Option<Vec<u8>>);

impl<'a> FromSql<'a> for Binary {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(Some(raw.to_vec())))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Binary {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match &self.0 {
            Some(bytes) => {
                out.extend_from_slice(bytes);
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// What became of a batch that was committed.
#[derive(Debug, Default)]
struct Done {
    loaded: u64,
    present: u64,
    /// Names of files that could not be read, and why.
    unreadable: Vec<(String, String)>,
}

/// What a failed batch is to be followed by.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// One of the rows is at fault.
    Row,
    /// It may work later.
    Passing,
    /// The load ends.
    Lasting,
}

impl Fault {
    fn of(error: &postgres::Error) -> Self {
        let Some(code) = error.code().map(|code| code.code()) else { return Self::Lasting };
        match &code[..2] {
            // Serialisation, resources, and the encoder's death (58000).
            "40" | "53" => Self::Passing,
            _ if code == "58000" => Self::Passing,
            // Data, constraints, limits, exceptions that a trigger raises, faults with one image.
            "21" | "22" | "23" | "27" | "44" | "54" | "P0" | "XX" => Self::Row,
            _ => Self::Lasting,
        }
    }
}

impl<'a> Worker<'a> {
    pub fn new(
        client: Client,
        plan: &'a Plan,
        options: &'a Options,
        progress: &'a Progress,
    ) -> Self {
        Self { client, plan, options, progress }
    }

    /// Loads batches until there are none, or one fails for good.
    pub fn run(&mut self, batches: Receiver<Vec<Item>>) -> Result<()> {
        for mut batch in batches {
            let mut names = HashSet::new();
            let before = batch.len();
            batch.retain(|item| names.insert(item.name.clone()));
            self.progress.committed(0, (before - batch.len()) as u64);
            self.load(&batch)?;
        }
        Ok(())
    }

    fn load(&mut self, items: &[Item]) -> Result<()> {
        let mut pause = FIRST_PAUSE;
        for retry in 0.. {
            let error = match self.attempt(items) {
                Ok(done) => {
                    self.progress.committed(done.loaded, done.present);
                    return done
                        .unreadable
                        .iter()
                        .try_for_each(|(name, reason)| self.progress.failed(name, reason));
                }
                Err(error) => error,
            };
            match Fault::of(&error) {
                Fault::Passing if retry < RETRIES => {
                    thread::sleep(pause);
                    pause *= 2;
                }
                Fault::Row if items.len() == 1 => {
                    return self.progress.failed(&items[0].name, &refusal(&error));
                }
                Fault::Row => {
                    let (one, other) = items.split_at(items.len() / 2);
                    return self.load(one).and_then(|()| self.load(other));
                }
                _ => return Err(error).context("the server refused a batch"),
            }
        }
        unreachable!("the retries end")
    }

    /// One transaction. An error leaves nothing of it.
    fn attempt(&mut self, items: &[Item]) -> Result<Done, postgres::Error> {
        let mut done = Done::default();
        // Fields first: what lies beside an image may be as unreadable as the image.
        let mut rows = Vec::new();
        for item in items {
            let constants = self.plan.constants.iter().map(|value| Ok(Some(value.clone())));
            match constants.chain(item.fields.iter().map(|field| field.value())).collect() {
                Ok(values) => rows.push((item, values)),
                Err(reason) => done.unreadable.push((item.name.clone(), reason)),
            }
        }
        let mut transaction = self.client.transaction()?;
        let lock = "SELECT pg_catalog.pg_advisory_xact_lock_shared($1)";
        transaction.execute(lock, &[&self.plan.batch_lock])?;
        let missing = missing(&mut transaction, self.plan, &rows)?;
        done.present = (rows.len() - missing.len()) as u64;
        let wanted: Vec<&Item> = missing.iter().map(|(at, _)| rows[*at].0).collect();
        // The type is not looked at: all values are in their types' binary form.
        let types = vec![Type::BYTEA; self.plan.columns + 2];
        let sink = transaction.copy_in(self.plan.copy.as_str())?;
        let mut writer = BinaryCopyInWriter::new(sink, &types);
        let options = self.options;
        let written = read::each(
            &wanted,
            options.readers,
            options.budget(),
            options.max_bytes(),
            |at, bytes| {
                match bytes {
                    Ok(bytes) => {
                        let image = Binary(Some(bytes));
                        let values = missing[at].1.iter().chain([&image]);
                        let values: Vec<&(dyn ToSql + Sync)> =
                            values.map(|value| value as &(dyn ToSql + Sync)).collect();
                        writer.write(&values)?;
                        done.loaded += 1;
                    }
                    Err(reason) => done.unreadable.push((wanted[at].name.clone(), reason)),
                }
                Ok(())
            },
        );
        // Its end says why, where writing failed because the server had given up.
        writer.finish().and(written)?;
        transaction.commit()?;
        Ok(done)
    }
}

/// Which rows are missing, each with its name and values in binary form.
fn missing(
    transaction: &mut Transaction,
    plan: &Plan,
    rows: &[(&Item, Vec<Option<String>>)],
) -> Result<Vec<(usize, Vec<Binary>)>, postgres::Error> {
    let names: Vec<&str> = rows.iter().map(|(item, _)| item.name.as_str()).collect();
    let columns: Vec<Vec<Option<&str>>> = (0..plan.columns)
        .map(|at| rows.iter().map(|(_, values)| values[at].as_deref()).collect())
        .collect();
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&names];
    parameters.extend(columns.iter().map(|column| column as &(dyn ToSql + Sync)));
    let found = transaction.query(plan.missing.as_str(), &parameters)?;
    let row = |row: &postgres::Row| {
        let number: i64 = row.try_get(0)?;
        let values = (1..=plan.columns + 1).map(|at| row.try_get(at)).collect::<Result<_, _>>()?;
        Ok((number as usize - 1, values))
    };
    found.iter().map(row).collect()
}

/// What the server said of a row, in one line.
fn refusal(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("refused by the server: {} ({})", said.message(), said.code().code()),
        None => format!("refused by the server: {error}"),
    }
}
