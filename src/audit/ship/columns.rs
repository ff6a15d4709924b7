//! Records by columns, as one statement of PostgreSQL takes them.

use super::{batch::Record, row::Row};
use futures_util::TryStreamExt;
use std::pin::pin;
use tokio_postgres::{
    Client, Error,
    types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked},
};

/// The last moment of the year 9999, in milliseconds: what is later counts as then.
const LAST: u64 = 253_402_300_799_999;
/// When it happened, in milliseconds since 1970.
pub(super) fn time(record: &Record) -> u64 {
    record.time.min(LAST)
}

/// A text as PostgreSQL can hold it: it has no NUL.
fn held(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A list as PostgreSQL writes it.
///
/// Source: PostgreSQL, section 8.15.6 (array input and output syntax).
fn list(items: &[&str]) -> Option<String> {
    if items.is_empty() {
        return None;
    }
    let quoted = items.iter().map(|item| {
        let item = held(item).replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{item}\"")
    });
    Some(format!("{{{}}}", quoted.collect::<Vec<_>>().join(",")))
}

/// Rows by columns, in one statement that is not prepared under a name.
#[derive(Default)]
pub(super) struct Columns(Vec<Column>);

struct Column {
    name: &'static str,
    /// What it is made of; `$` is the value here.
    made: &'static str,
    values: Values,
}

/// All values of a column.
#[derive(Debug)]
enum Values {
    Texts(Vec<Option<String>>),
    Numbers(Vec<i64>),
    Codes(Vec<Option<i32>>),
}

impl Values {
    fn kind(&self) -> Type {
        match self {
            Self::Texts(_) => Type::TEXT_ARRAY,
            Self::Numbers(_) => Type::INT8_ARRAY,
            Self::Codes(_) => Type::INT4_ARRAY,
        }
    }

    /// The same as SQL writes it.
    fn word(&self) -> &'static str {
        match self {
            Self::Texts(_) => "text[]",
            Self::Numbers(_) => "bigint[]",
            Self::Codes(_) => "integer[]",
        }
    }
}

impl ToSql for Values {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Texts(values) => values.to_sql(kind, out),
            Self::Numbers(values) => values.to_sql(kind, out),
            Self::Codes(values) => values.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        [Type::TEXT_ARRAY, Type::INT8_ARRAY, Type::INT4_ARRAY].contains(kind)
    }

    to_sql_checked!();
}

/// A time out of milliseconds since 1970.
const MOMENT: &str = "timestamptz 'epoch' + $ * interval '1 millisecond'";

impl Columns {
    fn texts(&mut self, name: &'static str, made: &'static str, values: impl Iterator<Item = Option<String>>) {
        self.0.push(Column { name, made, values: Values::Texts(values.collect()) });
    }

    fn numbers(&mut self, name: &'static str, made: &'static str, values: impl Iterator<Item = u64>) {
        let values = values.map(|value| i64::try_from(value).unwrap_or(i64::MAX)).collect();
        self.0.push(Column { name, made, values: Values::Numbers(values) });
    }

    fn codes(&mut self, name: &'static str, values: impl Iterator<Item = Option<i32>>) {
        self.0.push(Column { name, made: "$", values: Values::Codes(values.collect()) });
    }

    fn query(&self, table: &str) -> String {
        let each = |of: fn(usize, &Column) -> String| -> String {
            self.0.iter().enumerate().map(|(index, column)| of(index, column)).collect::<Vec<_>>().join(", ")
        };
        format!(
            "INSERT INTO {table} ({}) SELECT {} FROM unnest({}) AS r({}) ON CONFLICT DO NOTHING",
            each(|_, column| column.name.to_owned()),
            each(|index, column| column.made.replace('$', &format!("v{index}"))),
            each(|index, column| format!("${}::{}", index + 1, column.values.word())),
            each(|index, _| format!("v{index}")),
        )
    }

    /// Adds all rows that are not there yet.
    pub(super) async fn insert(self, client: &Client, table: &str) -> Result<(), Error> {
        let query = self.query(table);
        let typed = |column: Column| {
            let kind = column.values.kind();
            (column.values, kind)
        };
        let values: Vec<(Values, Type)> = self.0.into_iter().map(typed).collect();
        let mut rows = pin!(client.query_typed_raw(&query, values).await?);
        while rows.try_next().await?.is_some() {} // there are none; the end is the answer
        Ok(())
    }
}

/// All records, and the heads among them, if there are any.
pub(super) fn columns(records: &[Record]) -> (Columns, Option<Columns>) {
    let rows: Vec<_> = records.iter().map(|record| (record, Row::of(record))).collect();
    let (heads, all): (Vec<_>, _) = (rows.iter().filter(|(_, row)| row.head().is_object()).collect(), &rows);
    (of_records(all), (!heads.is_empty()).then(|| of_heads(&heads)))
}

/// How a text is read out of a record.
type Text = for<'r> fn(&'r Row) -> Option<&'r str>;

fn of_records(rows: &[(&Record, Row)]) -> Columns {
    let mut columns = Columns::default();
    columns.texts("node", "$", rows.iter().map(|(it, _)| Some(it.node.to_string())));
    columns.numbers("epoch", "$::integer", rows.iter().map(|(it, _)| it.epoch.into()));
    columns.numbers("seq", "$", rows.iter().map(|(it, _)| it.seq));
    columns.numbers("time", MOMENT, rows.iter().map(|(it, _)| time(it)));
    columns.texts("kind", "$", rows.iter().map(|(it, _)| Some(it.kind.as_str().to_owned())));
    columns.codes("class_uid", rows.iter().map(|(_, row)| row.class()));
    columns.codes("status", rows.iter().map(|(_, row)| row.status()));
    columns.texts("policies", "$::text[]", rows.iter().map(|(_, row)| list(&row.policies())));
    columns.texts("client", "$::inet", rows.iter().map(|(_, row)| row.client()));
    let of: [(&'static str, Text); 18] = [
        ("class", Row::class_name),
        ("activity", Row::activity),
        ("user_id", Row::user),
        ("login", Row::login),
        ("issuer", Row::issuer),
        ("session", Row::session),
        ("method", Row::method),
        ("host", Row::host),
        ("path", Row::path),
        ("route", Row::route),
        ("phase", Row::phase),
        ("decision", Row::decision),
        ("disposition", Row::disposition),
        ("policy_digest", Row::policy_digest),
        ("reason", Row::reason),
        ("request", Row::request),
        ("trace", Row::trace),
        ("prev", |row| Some(row.prev())),
    ];
    for (name, of) in of {
        columns.texts(name, "$", rows.iter().map(|(_, row)| of(row).map(held)));
    }
    columns.texts("line", "$", rows.iter().map(|(it, _)| Some(it.line.clone())));
    columns
}

fn of_heads(heads: &[&(&Record, Row)]) -> Columns {
    let mut columns = Columns::default();
    columns.texts("node", "$", heads.iter().map(|(it, _)| Some(it.node.to_string())));
    columns.numbers("epoch", "$::integer", heads.iter().map(|(it, _)| it.epoch.into()));
    columns.numbers("seq", "$", heads.iter().map(|(_, row)| row.head()["seq"].as_u64().unwrap_or_default()));
    columns.numbers("time", MOMENT, heads.iter().map(|(it, _)| time(it)));
    for name in ["hash", "key", "signature"] {
        let word = |row: &Row| held(row.head()[name].as_str().unwrap_or_default());
        columns.texts(name, "$", heads.iter().map(|(_, row)| Some(word(row))));
    }
    columns.texts("line", "$", heads.iter().map(|(it, _)| Some(it.line.clone())));
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_written_so_that_every_text_stays_one() {
        assert_eq!(list(&[]), None);
        assert_eq!(list(&["a", "b,c", "d\"e\\", "{}", ""]), Some(r#"{"a","b,c","d\"e\\","{}",""}"#.to_owned()));
        assert_eq!(list(&["a\0b"]), Some("{\"a\u{fffd}b\"}".to_owned()));
    }
}
