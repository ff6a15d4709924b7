//! Tables of PostgreSQL: one transaction for each batch, and what is there already stays as it is.
//!
//! No statement is prepared under a name, and no parameter is set for longer than a transaction, so that a pooler such as
//! pgbouncer may stand in between.

use super::{
    super::json,
    batch::Record,
    columns::{columns, time},
    dial::{self, Stream},
    scarce::Scarce,
    sink::Trouble,
};
use crate::config::PostgresSink;
use secrecy::ExposeSecret;
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::task::AbortHandle;
use tokio_postgres::{
    Client, Config, Error, NoTls, SimpleQueryMessage, config::SslMode, error::SqlState, tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The tables as this version writes them.
const FORMAT: &str = "1";
/// What they have at least; what a revision before lacks is added.
const REVISION: u32 = 2;
/// Of what a server says, so much is told.
const TOLD: usize = 300;
/// A day of UTC.
const DAY: u64 = 86_400_000;

/// The statements that make the tables in `schema`. With `writer`, also those that let this role add records, and do
/// nothing else to them.
pub fn schema(schema: &str, writer: Option<&str>) -> String {
    let mut text = include_str!("schema.sql").replace("{schema}", schema);
    if let Some(writer) = writer {
        let writer = format!("\"{}\"", writer.replace('"', "\"\""));
        let _ = write!(
            text,
            "\n-- This role adds records. It can neither read, change nor delete any.\n\
             GRANT USAGE ON SCHEMA {schema} TO {writer};\n\
             GRANT INSERT ON {schema}.records, {schema}.heads TO {writer};\n\
             GRANT EXECUTE ON FUNCTION {schema}.add_day(date) TO {writer};\n"
        );
    }
    text
}

/// A database, connected when it is needed.
pub(super) struct Postgres {
    settings: PostgresSink,
    connected: Option<Connected>,
}

struct Connected {
    client: Client,
    /// Days, counted from 1970, that have a partition.
    days: BTreeSet<u64>,
    connection: AbortHandle,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Postgres {
    pub(super) fn new(settings: PostgresSink) -> Self {
        Self { settings, connected: None }
    }

    pub(super) async fn send(&mut self, records: &[Record]) -> Result<(), Trouble> {
        let mut connected = match self.connected.take() {
            Some(connected) if !connected.client.is_closed() => connected,
            Some(_) | None => self.connect(true).await.map_err(Trouble::Failed)?,
        };
        // whatever fails, the connection goes with it: nobody knows how far it is
        connected.write(&self.settings.schema, records).await.map_err(|error| trouble(&error))?;
        self.connected = Some(connected);
        Ok(())
    }

    /// Connects and looks for the tables; nothing is written.
    pub(super) async fn probe(&self) -> Result<String, String> {
        let connected = self.connect(false).await?;
        let (client, schema) = (&connected.client, &self.settings.schema);
        let lacks = match format(client, schema).await?.as_deref() {
            Some(FORMAT) => value(client, &lacks(schema)).await?,
            Some(other) => return Err(other_format(schema, other)),
            None => match value(client, &cannot_make(schema)).await? {
                None => {
                    return Ok(format!(
                        "connected; the tables of `{schema}` are not there yet, and are made at the start"
                    ));
                }
                lacks => {
                    lacks.map(|lacks| format!("the tables of `{schema}` are not there, and to make them, {lacks}"))
                }
            },
        };
        match lacks {
            Some(lacks) => Err(format!("connected, but {lacks}: {}", advice(schema))),
            None => Ok(format!("connected, and the tables of `{schema}` are there")),
        }
    }

    pub(super) async fn close(self) {
        if let Some(connected) = self.connected {
            let _ = connected.client.simple_query("").await; // what was asked is answered by then
        }
    }

    async fn connect(&self, make: bool) -> Result<Connected, String> {
        let PostgresSink { place, user, password, database, tls, schema } = &self.settings;
        let mut config = Config::new();
        config.user(user).dbname(database).application_name("vestibule");
        if let Some(password) = password {
            config.password(password.expose_secret());
        }
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        let stream = Scarce::new(dial::plain(place).await.map_err(|error| error.to_string())?);
        let (client, connection) = match tls {
            Some(tls) => {
                let name = dial::name(tls, place).map_err(|error| error.to_string())?;
                let mut maker = MakeRustlsConnect::new(tls.plain());
                let tls = MakeTlsConnect::<Scarce<Stream>>::make_tls_connect(&mut maker, &name.to_str());
                let tls = tls.map_err(|error| error.to_string())?;
                let (client, connection) = config.connect_raw(stream, tls).await.map_err(|error| told(&error))?;
                (client, tokio::spawn(async move { drop(connection.await) }).abort_handle())
            }
            None => {
                let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| told(&error))?;
                (client, tokio::spawn(async move { drop(connection.await) }).abort_handle())
            }
        };
        let connected = Connected { client, days: BTreeSet::new(), connection };
        if make {
            tables(&connected.client, schema).await?;
        }
        Ok(connected)
    }
}

/// Sees to it that the tables are there, with all that this version needs.
async fn tables(client: &Client, schema: &str) -> Result<(), String> {
    let what = match format(client, schema).await?.as_deref() {
        Some(FORMAT) if revision(client, schema).await? >= REVISION => return Ok(()),
        Some(FORMAT) => "are of an earlier version and cannot be brought up to date",
        Some(other) => return Err(other_format(schema, other)),
        None => "are not there and cannot be made",
    };
    let all = self::schema(schema, None);
    let script = format!("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('{schema}.records', 1)); {all}; COMMIT");
    let made = client.batch_execute(&script).await;
    made.map_err(|error| format!("the tables of `{schema}` {what}: {}", advised(&error, schema)))
}

fn other_format(schema: &str, other: &str) -> String {
    format!("the tables of `{schema}` have format {other}, this version writes {FORMAT}")
}

/// The format of the tables; `None` if there are none.
async fn format(client: &Client, schema: &str) -> Result<Option<String>, String> {
    let there = client.simple_query(&format!("SELECT to_regprocedure('{schema}.audit_format()')")).await;
    match first(&there.map_err(|error| advised(&error, schema))?) {
        Some(_) => value(client, &format!("SELECT {schema}.audit_format()")).await,
        None => Ok(None),
    }
}

/// The revision of tables that are there; the first had no word for it.
async fn revision(client: &Client, schema: &str) -> Result<u32, String> {
    match value(client, &format!("SELECT to_regprocedure('{schema}.audit_revision()')")).await? {
        Some(_) => {
            let said = value(client, &format!("SELECT {schema}.audit_revision()")).await?;
            Ok(said.and_then(|said| said.parse().ok()).unwrap_or(1))
        }
        None => Ok(1),
    }
}

/// Asks what of the tables is missing; no value if nothing is.
fn lacks(schema: &str) -> String {
    let table = |name: &str| {
        format!(
            "CASE WHEN to_regclass('{schema}.{name}') IS NULL THEN 'the table `{schema}.{name}` is missing' \
             WHEN NOT has_table_privilege(to_regclass('{schema}.{name}'), 'INSERT') \
             THEN 'this role may not insert into `{schema}.{name}`' END"
        )
    };
    let function = |name: &str, types: &str| {
        let whole = format!("to_regprocedure('{schema}.{name}({types})')");
        format!(
            "CASE WHEN {whole} IS NULL THEN 'the function `{schema}.{name}` is missing' \
             WHEN NOT has_function_privilege({whole}, 'EXECUTE') THEN 'this role may not call `{schema}.{name}`' END"
        )
    };
    let all = [table("records"), table("heads"), function("add_day", "date"), function("audit_revision", "")];
    format!("SELECT nullif(concat_ws(', ', {}), '')", all.join(", "))
}

/// Asks what keeps us from making the tables; no value if nothing does.
fn cannot_make(schema: &str) -> String {
    format!(
        "SELECT CASE WHEN NOT has_database_privilege(current_database(), 'CREATE') \
         THEN 'this role needs the right to CREATE in the database' \
         WHEN NOT coalesce(has_schema_privilege(to_regnamespace('{schema}'), 'CREATE'), true) \
         THEN 'this role needs the right to CREATE in the schema' END"
    )
}

/// What to do about tables that are not as they should be.
fn advice(schema: &str) -> String {
    format!("let their owner run what `vestibule audit schema --schema {schema} --writer ROLE` prints")
}

/// What the server says, and what to do if that is about a right.
fn advised(error: &Error, schema: &str) -> String {
    let said = told(error);
    let about_rights = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
    if about_rights { format!("{said}: {}", advice(schema)) } else { said }
}

/// The first value of the first row.
async fn value(client: &Client, query: &str) -> Result<Option<String>, String> {
    Ok(first(&client.simple_query(query).await.map_err(|error| told(&error))?))
}

fn first(rows: &[SimpleQueryMessage]) -> Option<String> {
    rows.iter().find_map(|row| match row {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

impl Connected {
    async fn write(&mut self, schema: &str, records: &[Record]) -> Result<(), Error> {
        let (all, heads) = columns(records);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs() / 86_400;
        let days = records.iter().map(|record| time(record) / DAY).chain([now, now + 1]);
        let new: BTreeSet<u64> = days.filter(|day| !self.days.contains(day)).collect();
        // what is committed must outlive a crash of the server, whatever is usual there
        let mut begin = "BEGIN; SELECT set_config('synchronous_commit', 'on', true) \
                         WHERE current_setting('synchronous_commit') IN ('off', 'local')"
            .to_owned();
        for day in &new {
            let _ = write!(begin, "; SELECT {schema}.add_day(DATE '1970-01-01' + {day})");
        }
        self.client.batch_execute(&begin).await?;
        all.insert(&self.client, &format!("{schema}.records")).await?;
        if let Some(heads) = heads {
            heads.insert(&self.client, &format!("{schema}.heads")).await?;
        }
        self.client.batch_execute("COMMIT").await?;
        self.days.extend(new);
        Ok(())
    }
}

/// What the server says, without its `DETAIL`, which may have values in it.
fn told(error: &Error) -> String {
    match error.as_db_error() {
        Some(said) => {
            format!("{} (SQLSTATE {})", json::clip(&json::visible(said.message()), TOLD), said.code().code())
        }
        None => crate::text::chain(error),
    }
}

/// Values that a column cannot hold, constraints, and limits of the program are about these records; everything else may pass.
///
/// Source: PostgreSQL, appendix A (classes 22, 23 and 54).
fn trouble(error: &Error) -> Trouble {
    let class = error.code().map(|code| &code.code()[..2]);
    if matches!(class, Some("22" | "23" | "54")) { Trouble::Refused(told(error)) } else { Trouble::Failed(told(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_may_add_and_nothing_else() {
        let text = schema("trail", Some("odd\"role"));
        assert!(!text.contains("{schema}"));
        let grants: Vec<_> = text.lines().filter(|line| line.starts_with("GRANT")).collect();
        assert_eq!(
            grants,
            [
                "GRANT USAGE ON SCHEMA trail TO \"odd\"\"role\";",
                "GRANT INSERT ON trail.records, trail.heads TO \"odd\"\"role\";",
                "GRANT EXECUTE ON FUNCTION trail.add_day(date) TO \"odd\"\"role\";",
            ]
        );
        assert!(!schema("trail", None).contains("GRANT"));
    }
}
