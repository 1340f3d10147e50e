//! Builds the queries that walk a table by its key. Pure: text in, text out.
//!
//! The page query gives the columns of the cursor, then key, value, length of the value in bytes, then the columns beside.
//! A value over the limit is not sent: its column is NULL while its length is not, which tells it from a value that is
//! NULL itself. The limit on rows is a parameter like any other, so that the pages of a scan share two prepared
//! statements.
//!
//! A place in a key of several columns is compared by row values, `(a, b) > (?, ?)`, on SQLite and PostgreSQL. MySQL and
//! MariaDB read the whole index for those, and a range of it for `a > ? OR (a = ? AND b > ?)`.

use std::{fmt::Write as _, sync::Arc};

use super::{
    quote::Dialect,
    shape::{Affinity, Checked, ColumnKind, CursorColumn, IdsColumn, KeyKind, KeyType},
};
use crate::{
    cursor::{Cursor, KeyRange, KeyValue, unhex},
    error::{EdgeError, ErrorKind},
};

/// Most ids of one `--ids`. Ten thousand parameters are still prepared in milliseconds; MariaDB ends at 65,535.
const MOST_IDS: usize = 10_000;

/// Most places of a key of several columns in one query: their condition is a list of comparisons.
pub const MOST_PLACES: usize = 1_000;

/// One id of `--ids`, typed as its column; or the place of one row. A list may have both: then a row need only fit one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Id {
    Key(KeyValue),
    Text(String),
    /// As the column's values read when they are ids, whatever their types are.
    Form(String),
    /// In the cursor, whatever the column of the ids is.
    Place(Vec<KeyValue>),
}

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Param {
    /// The longest value that is sent.
    ValueLimit,
    /// A column of the range's exclusive start.
    After(usize),
    /// A column of the range's inclusive end.
    Until(usize),
    /// One of the ids.
    Id(usize),
    /// A column of one of the places.
    Place(usize, usize),
    /// A value of one column, to search from.
    From,
    /// The watermark of rows that changed.
    Since,
    /// Most rows.
    Rows,
}

/// A query and what its placeholders stand for, in their order.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub sql: Arc<str>,
    params: Arc<[Param]>,
    /// What [`Param::Since`] is: the same for every page.
    since: Option<Arc<KeyValue>>,
}

/// What the placeholders of a statement are filled from. What a statement does not ask for is not looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Values<'a> {
    pub value_limit: u64,
    pub after: Option<&'a Cursor>,
    pub until: Option<&'a Cursor>,
    pub from: Option<&'a KeyValue>,
    pub ids: &'a [Id],
    pub rows: u32,
}

/// What one placeholder is bound to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bound<'a> {
    /// A limit; beyond what the server's integers hold it means "none".
    Number(u64),
    Key(&'a KeyValue),
    Text(&'a str),
}

impl Statement {
    /// Returns what to bind to each placeholder, in order.
    ///
    /// # Errors
    ///
    /// `Internal` where a cursor has not as many columns as the statement: a bug, or a journal of another table.
    pub fn bound<'a>(&'a self, values: &Values<'a>) -> Result<Vec<Bound<'a>>, EdgeError> {
        let column = |cursor: Option<&'a Cursor>, at: usize| Some(Bound::Key(cursor?.0.get(at)?));
        self.params
            .iter()
            .map(|param| {
                match *param {
                    Param::ValueLimit => Some(Bound::Number(values.value_limit)),
                    Param::Rows => Some(Bound::Number(values.rows.into())),
                    Param::After(at) => column(values.after, at),
                    Param::Until(at) => column(values.until, at),
                    Param::From => values.from.map(Bound::Key),
                    Param::Since => self.since.as_deref().map(Bound::Key),
                    Param::Id(at) => match values.ids.get(at) {
                        Some(Id::Key(key)) => Some(Bound::Key(key)),
                        Some(Id::Text(text) | Id::Form(text)) => Some(Bound::Text(text)),
                        Some(Id::Place(_)) | None => None,
                    },
                    Param::Place(at, of) => match values.ids.get(at) {
                        Some(Id::Place(keys)) => keys.get(of).map(Bound::Key),
                        _ => None,
                    },
                }
                .ok_or_else(|| {
                    EdgeError::new(
                        ErrorKind::Internal,
                        "a cursor has another number of columns than the query it is for",
                    )
                })
            })
            .collect()
    }
}

/// A statement that is being written.
struct Writer {
    dialect: Dialect,
    text: String,
    params: Vec<Param>,
    since: Option<Arc<KeyValue>>,
}

impl Writer {
    const fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            text: String::new(),
            params: Vec::new(),
            since: None,
        }
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn placeholder(&mut self, param: Param) {
        self.params.push(param);
        match self.dialect {
            Dialect::Mysql | Dialect::Sqlite => self.push("?"),
            Dialect::Postgres => {
                let _ = write!(self.text, "${}", self.params.len());
            }
        }
    }

    /// Writes a placeholder for a limit.
    fn limit(&mut self, param: Param) {
        match self.dialect {
            Dialect::Mysql | Dialect::Sqlite => self.placeholder(param),
            Dialect::Postgres => {
                // The server would take the type of what it is compared with.
                self.push("CAST(");
                self.placeholder(param);
                self.push(" AS bigint)");
            }
        }
    }

    /// Writes a placeholder for a value of a column of type `key`.
    fn value(&mut self, param: Param, key: Option<&KeyType>) {
        let Some(cast) = key.and_then(|key| key.cast.as_deref()) else {
            return self.placeholder(param);
        };
        self.push("CAST(");
        if self.dialect == Dialect::Postgres {
            // The server would ask for a parameter of the type itself; values are sent as their text.
            self.push("CAST(");
            self.placeholder(param);
            self.push(" AS text)");
        } else {
            self.placeholder(param);
        }
        let _ = write!(self.text, " AS {cast})");
    }

    /// Writes that the key lies on the side `operator` of a cursor whose columns are `param`.
    fn compare(&mut self, columns: &[CursorColumn], operator: &str, param: fn(usize) -> Param) {
        if let [only] = columns {
            self.column(only, operator, param(0));
        } else if self.dialect == Dialect::Mysql {
            let strict = &operator[..1];
            self.push("(");
            for end in 0..columns.len() {
                self.push(if end > 0 { " OR (" } else { "" });
                for (at, column) in columns[..end].iter().enumerate() {
                    self.column(column, "=", param(at));
                    self.push(" AND ");
                }
                let last = end + 1 == columns.len();
                self.column(
                    &columns[end],
                    if last { operator } else { strict },
                    param(end),
                );
                self.push(if end > 0 { ")" } else { "" });
            }
            self.push(")");
        } else {
            self.push("(");
            self.push(&list(columns, |column| &column.quoted));
            let _ = write!(self.text, ") {operator} (");
            for (at, column) in columns.iter().enumerate() {
                self.push(if at > 0 { ", " } else { "" });
                self.value(param(at), Some(&column.key));
            }
            self.push(")");
        }
    }

    fn column(&mut self, column: &CursorColumn, operator: &str, param: Param) {
        let _ = write!(self.text, "{} {operator} ", column.quoted);
        self.value(param, Some(&column.key));
    }

    fn ids(&mut self, table: &Checked, ids: Option<&[Id]>) {
        let Some(ids) = ids else { return };
        let (places, rest): (Vec<usize>, Vec<usize>) =
            (0..ids.len()).partition(|at| matches!(ids[*at], Id::Place(_)));
        let (forms, keys): (Vec<usize>, Vec<usize>) = rest
            .into_iter()
            .partition(|at| matches!(ids[*at], Id::Form(_)));
        let column = table.ids.as_ref();
        let keys = column.filter(|_| !keys.is_empty()).map(|one| (one, keys));
        let forms = column
            .and_then(|one| one.form.as_deref())
            .filter(|_| !forms.is_empty())
            .map(|one| (one, forms));
        let parts = [!places.is_empty(), keys.is_some(), forms.is_some()];
        let parts = parts.into_iter().filter(|is_there| *is_there).count();
        self.push(" AND ");
        if parts == 0 {
            // No ids, or none that were typed for this table.
            return self.push("1 = 0");
        }
        self.push(if parts > 1 { "(" } else { "" });
        if !places.is_empty() {
            self.places(table, &places);
        }
        if let Some((column, keys)) = keys {
            self.push(if places.is_empty() { "" } else { " OR " });
            self.keys(column, &keys);
        }
        if let Some((form, forms)) = forms {
            self.push(if parts > 1 { " OR " } else { "" });
            let _ = write!(self.text, "{form} IN (");
            for (nth, at) in forms.iter().enumerate() {
                self.push(if nth > 0 { ", " } else { "" });
                self.placeholder(Param::Id(*at));
            }
            self.push(")");
        }
        self.push(if parts > 1 { ")" } else { "" });
    }

    /// Writes the condition that the column of the ids holds one of `ids`.
    fn keys(&mut self, column: &IdsColumn, ids: &[usize]) {
        // What cannot be a key is compared as the text that it is read as: PostgreSQL has no `enum = text`.
        let as_text = self.dialect == Dialect::Postgres && column.key.is_none();
        let of = if as_text { "::text" } else { "" };
        let _ = write!(self.text, "{}{of} IN (", column.quoted);
        for (nth, at) in ids.iter().enumerate() {
            self.push(if nth > 0 { ", " } else { "" });
            self.value(Param::Id(*at), column.key.as_ref());
        }
        self.push(")");
    }

    /// Writes the condition that a row lies at one of the places.
    fn places(&mut self, table: &Checked, ids: &[usize]) {
        let columns = &table.cursor;
        if let [only] = columns.as_slice() {
            let _ = write!(self.text, "{} IN (", only.quoted);
            for (nth, at) in ids.iter().enumerate() {
                self.push(if nth > 0 { ", " } else { "" });
                self.value(Param::Place(*at, 0), Some(&only.key));
            }
            self.push(")");
            return;
        }
        let row = |sql: &mut Self, at: usize| {
            for (of, column) in columns.iter().enumerate() {
                sql.push(if of > 0 { ", " } else { "(" });
                sql.value(Param::Place(at, of), Some(&column.key));
            }
            sql.push(")");
        };
        if self.dialect == Dialect::Sqlite {
            // A thousand ORs are as deep as its parser goes.
            let _ = write!(
                self.text,
                "({}) IN (VALUES ",
                list(columns, |column| &column.quoted)
            );
            for (nth, at) in ids.iter().enumerate() {
                self.push(if nth > 0 { ", " } else { "" });
                row(self, *at);
            }
            self.push(")");
            return;
        }
        for (nth, at) in ids.iter().enumerate() {
            self.push(if nth > 0 { " OR (" } else { "((" });
            for (of, column) in columns.iter().enumerate() {
                self.push(if of > 0 { " AND " } else { "" });
                self.column(column, "=", Param::Place(*at, of));
            }
            self.push(")");
        }
        self.push(")");
    }

    /// Writes the condition that a row changed, where only such rows are meant.
    fn changed(&mut self, table: &Checked) {
        let Some(changed) = &table.changed else {
            return;
        };
        let (before, key, after) = changed.condition();
        self.push(" AND ");
        self.push(&before);
        self.value(Param::Since, Some(key));
        self.push(&after);
        self.since = Some(Arc::clone(&changed.watermark));
    }

    fn order(&mut self, table: &Checked, direction: &str) {
        for (at, column) in table.cursor.iter().enumerate() {
            self.push(if at > 0 { ", " } else { " ORDER BY " });
            if self.dialect == Dialect::Postgres {
                // Bare, the name means the selected expression of that name first, and its text sorts otherwise.
                let _ = write!(self.text, "{}.", table.table);
            }
            let _ = write!(self.text, "{}{direction}", column.quoted);
        }
    }

    fn finish(self) -> Statement {
        Statement {
            sql: self.text.into(),
            params: self.params.into(),
            since: self.since,
        }
    }
}

fn list(columns: &[CursorColumn], part: impl Fn(&CursorColumn) -> &String) -> String {
    let parts: Vec<&str> = columns.iter().map(|column| part(column).as_str()).collect();
    parts.join(", ")
}

/// Both forms of the page query.
#[derive(Debug, Clone)]
pub(super) struct PageSql {
    /// From the first row on.
    pub first: Statement,
    /// From the row after `after` on.
    pub next: Statement,
}

/// Returns the page query of `table`, filtered by `ids` ids if there are any.
pub(super) fn page(table: &Checked, ids: Option<&[Id]>) -> PageSql {
    PageSql {
        first: page_from(table, ids, false),
        next: page_from(table, ids, true),
    }
}

fn page_from(table: &Checked, ids: Option<&[Id]>, after: bool) -> Statement {
    let Checked { key, value, .. } = table;
    let mut sql = Writer::new(table.dialect);
    let cursor = list(&table.cursor, |column| &column.selected);
    let _ = write!(
        sql.text,
        "SELECT {cursor}, {key}, CASE WHEN OCTET_LENGTH({value}) > "
    );
    sql.limit(Param::ValueLimit);
    let _ = write!(
        sql.text,
        " THEN NULL ELSE {value} END, OCTET_LENGTH({value})"
    );
    for column in &table.beside {
        let _ = write!(sql.text, ", {column}");
    }
    let _ = write!(
        sql.text,
        " FROM {}{} WHERE {}",
        table.table,
        hint(table, ids),
        condition(table)
    );
    if after {
        sql.compare(&table.cursor, ">", Param::After);
        sql.push(" AND ");
    }
    sql.compare(&table.cursor, "<=", Param::Until);
    sql.ids(table, ids);
    sql.changed(table);
    sql.order(table, "");
    sql.push(" LIMIT ");
    sql.limit(Param::Rows);
    sql.finish()
}

/// Returns the query that counts the rows of `table` exactly. Parameters: ids.
pub(super) fn count(table: &Checked, ids: Option<&[Id]>) -> Statement {
    let mut sql = Writer::new(table.dialect);
    let _ = write!(
        sql.text,
        "SELECT COUNT(*) FROM {} WHERE {}1 = 1",
        table.table,
        condition(table)
    );
    sql.ids(table, ids);
    sql.changed(table);
    sql.finish()
}

/// Returns the query for the mean length of key and value among the first 100 rows. Parameters: ids.
pub(super) fn sample(table: &Checked, ids: Option<&[Id]>) -> Statement {
    let Checked { key, value, .. } = table;
    let whole = match table.dialect {
        Dialect::Mysql | Dialect::Sqlite => "UNSIGNED",
        Dialect::Postgres => "bigint",
    };
    let mut sql = Writer::new(table.dialect);
    let _ = write!(
        sql.text,
        "SELECT COUNT(*), CAST(COALESCE(SUM(len), 0) AS {whole}) FROM (SELECT COALESCE(OCTET_LENGTH({key}), 0) + \
         COALESCE(OCTET_LENGTH({value}), 0) AS len FROM {}{} WHERE {}1 = 1",
        table.table,
        hint(table, ids),
        condition(table)
    );
    sql.ids(table, ids);
    sql.order(table, "");
    sql.push(" LIMIT 100) AS sampled");
    sql.finish()
}

/// Returns the query for the greatest key, with `first` among those whose first column is at or below that number. No
/// parameters.
pub(super) fn last(table: &Checked, first: Option<i128>) -> Statement {
    let mut sql = select_key(table);
    if let (Some(first), [column, ..]) = (first, table.cursor.as_slice()) {
        let _ = write!(sql.text, " WHERE {} <= {first}", column.quoted);
    }
    sql.order(table, " DESC");
    sql.push(" LIMIT 1");
    sql.finish()
}

/// Returns the query for the least key. No parameters.
pub(super) fn least(table: &Checked) -> Statement {
    let mut sql = select_key(table);
    sql.order(table, "");
    sql.push(" LIMIT 1");
    sql.finish()
}

/// Returns the query for the greatest key between two keys, both excluded, that has the first `same` columns of the lower
/// one; with `from` for the least such key whose next column is at least a value. Parameters: after, until, from.
pub(super) fn seek(table: &Checked, same: usize, from: bool) -> Statement {
    let mut sql = select_key(table);
    sql.push(" WHERE ");
    sql.compare(&table.cursor, ">", Param::After);
    sql.push(" AND ");
    sql.compare(&table.cursor, "<", Param::Until);
    for (at, column) in table.cursor.iter().enumerate().take(same) {
        sql.push(" AND ");
        sql.column(column, "=", Param::After(at));
    }
    if from && let Some(column) = table.cursor.get(same) {
        sql.push(" AND ");
        sql.column(column, ">=", Param::From);
    }
    if from {
        sql.order(table, "");
    } else {
        sql.order(table, " DESC");
    }
    sql.push(" LIMIT 1");
    sql.finish()
}

/// Returns the condition of a range's rows behind `before`: an EXPLAIN or a count. Parameters: after (if there is one),
/// until, rows (if `limit`).
pub(super) fn rows_of_range(table: &Checked, before: &str, after: bool, limit: bool) -> Statement {
    let mut sql = Writer::new(table.dialect);
    let first = table.cursor.first().map_or("", |column| &column.quoted);
    let _ = write!(
        sql.text,
        "{before}SELECT {first} FROM {}{} WHERE ",
        table.table,
        hint(table, None)
    );
    if after {
        sql.compare(&table.cursor, ">", Param::After);
        sql.push(" AND ");
    }
    sql.compare(&table.cursor, "<=", Param::Until);
    if limit {
        sql.push(" LIMIT ");
        sql.limit(Param::Rows);
        sql.push(") AS counted");
    }
    sql.finish()
}

fn select_key(table: &Checked) -> Writer {
    let mut sql = Writer::new(table.dialect);
    let _ = write!(
        sql.text,
        "SELECT {} FROM {}{}",
        list(&table.cursor, |column| &column.selected),
        table.table,
        hint(table, None),
    );
    sql
}

/// Returns two queries without rows or parameters that fail when the plan's condition is not one whole condition.
///
/// The first has it bare, the second in brackets: `a) OR (b` passes only in brackets and would take the key range
/// apart, `1 LIMIT 5` passes only bare.
pub(super) fn condition_checks(table: &Checked) -> Option<[Arc<str>; 2]> {
    let condition = table.condition.as_deref()?;
    Some([
        format!("SELECT 1 FROM {} WHERE {condition}\nLIMIT 0", table.table).into(),
        format!(
            "SELECT 1 FROM {} WHERE ({condition}\n) LIMIT 0",
            table.table
        )
        .into(),
    ])
}

/// Without ids the cursor's own index is forced: a condition on an indexed column otherwise tempts the planner to
/// collect all its rows and sort them, again for every page. With ids the planner may use the index on the ids, and with few
/// rows that changed the one on the column that says so.
fn hint(table: &Checked, ids: Option<&[Id]>) -> String {
    if ids.is_some() || table.hint.is_empty() || !table.is_walked() {
        String::new()
    } else {
        format!(" {}", table.hint)
    }
}

/// The line break ends a `--` comment in the plan's condition.
fn condition(table: &Checked) -> String {
    table
        .condition
        .as_deref()
        .map_or_else(String::new, |condition| format!("({condition}\n) AND "))
}

/// Returns `ids` typed as the column they are compared with. Those of a binary column are hexadecimal after `0x`, else the
/// bytes of their text. Places of rows may stand among them: then the engine made the list, and an id that no row can have
/// is left out.
///
/// # Errors
///
/// `Refused` for more than 10,000 ids or places, for one that cannot be a value of the column, and where no column is meant.
pub(super) fn typed_ids(table: &Checked, ids: &[String]) -> Result<Vec<Id>, EdgeError> {
    let refused = |message: String| EdgeError::new(ErrorKind::Refused, message);
    let is_place = |id: &String| Cursor::from_exact(id).is_some();
    let places = ids.iter().filter(|id| is_place(id)).count();
    let most = places.max(ids.len() - places);
    if most > MOST_IDS {
        return Err(refused(format!(
            "`--ids` names {most} ids; at most 10000 fit one run"
        )));
    }
    let key_of = |id: &String| {
        let Some(column) = &table.ids else {
            return Err(refused(format!(
                "`--ids` cannot say which column of `{}` it means: the cursor has {} columns; name one as `from.entity`",
                table.name,
                table.cursor.len()
            )));
        };
        let kind = column.key.as_ref().map(|key| key.kind);
        let typed = typed_id(column.kind, kind, id);
        let ours = places > 0 && !is_place(id);
        match typed {
            Some(typed) if is_form_wanted(column, id) => Ok(vec![typed, form(id)]),
            Some(typed) => Ok(vec![typed]),
            // What it read it finds again.
            None if ours && column.form.is_some() => Ok(vec![form(id)]),
            None if ours => Ok(Vec::new()),
            None => Err(refused(format!(
                "id `{}` of `--ids` is not {} that column `{}` can hold",
                id.escape_default(),
                noun(column.kind, kind),
                column.name
            ))),
        }
    };
    let mut typed = Vec::with_capacity(ids.len());
    for id in ids {
        match place(table, id) {
            Some(place) => typed.push(place),
            None => typed.extend(key_of(id)?),
        }
    }
    Ok(typed)
}

/// Returns whether a value of SQLite's may stand in the column as another type than the id is bound as.
fn is_form_wanted(column: &IdsColumn, id: &str) -> bool {
    column.form.is_some()
        && match column.affinity {
            Affinity::Integer => false,
            Affinity::Text => id.starts_with("0x"),
            Affinity::None => true,
        }
}

/// Returns an id as a value reads that is one.
fn form(id: &str) -> Id {
    Id::Form(match id.strip_prefix("0x").and_then(unhex) {
        Some(_) => id.to_lowercase(),
        None => id.to_owned(),
    })
}

/// Returns the place that [`Cursor::exact`] wrote; `None` for any other id, and for a place in another table.
fn place(table: &Checked, id: &str) -> Option<Id> {
    let Cursor(keys) = Cursor::from_exact(id)?;
    let fits =
        |(column, key): (&CursorColumn, &KeyValue)| holds(table.dialect, column.key.kind, key);
    (keys.len() == table.cursor.len() && table.cursor.iter().zip(&keys).all(fits))
        .then_some(Id::Place(keys))
}

/// Returns whether a column of this kind may hold `key`; those of SQLite hold anything.
fn holds(dialect: Dialect, kind: KeyKind, key: &KeyValue) -> bool {
    dialect == Dialect::Sqlite || kind.holds(key)
}

fn typed_id(kind: ColumnKind, key: Option<KeyKind>, id: &str) -> Option<Id> {
    let consists_of = |allowed: &str| {
        let digits = id.bytes().any(|c| c.is_ascii_digit());
        digits
            && id
                .chars()
                .all(|c| c.is_ascii_digit() || allowed.contains(c))
    };
    let text = id.to_owned();
    // What a server cannot read as the column's type it may take for zero, which would mean another row.
    Some(Id::Key(match (kind, key) {
        (ColumnKind::Integer { unsigned: true }, _) => KeyValue::Uint(id.parse().ok()?),
        (ColumnKind::Integer { unsigned: false }, _) => KeyValue::Int(id.parse().ok()?),
        (_, Some(KeyKind::Bytes)) => KeyValue::Bytes(match id.strip_prefix("0x") {
            Some(digits) => unhex(digits)?,
            None => id.as_bytes().to_vec(),
        }),
        (_, Some(KeyKind::Decimal)) => {
            let number = id.strip_prefix('-').unwrap_or(id);
            let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
            let digits = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
            if !digits(whole) || !digits(fraction) {
                return None;
            }
            KeyValue::Decimal(text)
        }
        (_, Some(KeyKind::Timestamp)) if consists_of("-:. T+") => KeyValue::Timestamp(text),
        (_, Some(KeyKind::Date)) if consists_of("-") => KeyValue::Date(text),
        (_, Some(KeyKind::Time)) if consists_of("-:.") => KeyValue::Time(text),
        (_, Some(KeyKind::Uuid)) => {
            let digits: String = id.chars().filter(|c| *c != '-').collect();
            if digits.len() != 32 || unhex(&digits).is_none() {
                return None;
            }
            KeyValue::Uuid(text)
        }
        (_, Some(KeyKind::Timestamp | KeyKind::Date | KeyKind::Time)) => return None,
        _ => return Some(Id::Text(text)),
    }))
}

const fn noun(kind: ColumnKind, key: Option<KeyKind>) -> &'static str {
    match (kind, key) {
        (_, Some(KeyKind::Bytes)) => "a binary value",
        (_, Some(KeyKind::Timestamp)) => "a date and time",
        (_, Some(KeyKind::Date)) => "a date",
        (_, Some(KeyKind::Time)) => "a time",
        (_, Some(KeyKind::Uuid)) => "a UUID",
        _ => "a number",
    }
}

/// Checks that a range is one of this table's, so that a row of a journal never walks a table it was not written for.
///
/// # Errors
///
/// `Internal` where it has not as many columns as the cursor.
pub(super) fn check_range(table: &Checked, range: &KeyRange) -> Result<(), EdgeError> {
    let fits = |cursor: &Cursor| cursor.0.len() == table.cursor.len();
    if fits(&range.until) && range.after.as_ref().is_none_or(fits) {
        return Ok(());
    }
    Err(EdgeError::new(
        ErrorKind::Internal,
        format!(
            "a range whose cursors have another number of columns than the cursor of `{}` reached its source",
            table.name
        ),
    ))
}

/// Returns whether `key`, read after `before`, cannot follow it: integers are compared; what only the database can compare
/// is at least another key.
pub(super) fn is_out_of_order(before: &Cursor, key: &[KeyValue]) -> bool {
    match (before.0.as_slice(), key) {
        ([before], [key]) => match (before.as_i128(), key.as_i128()) {
            (Some(before), Some(key)) => before >= key,
            _ => before == key,
        },
        (before, key) => before == key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::RowSource,
        source::{
            Since,
            quote::Dialect,
            shape::{self, tests as fixtures},
        },
    };

    fn table(condition: Option<&str>) -> Checked {
        let from = RowSource {
            condition: condition.map(str::to_owned),
            ..fixtures::from(&["id_url"])
        };
        shape::check(Dialect::Mysql, "here", &from, &fixtures::catalogue()).expect("checked")
    }

    #[test]
    fn the_page_query_reads_one_key_range_in_order() {
        let sql = page(&table(None), None);
        assert_eq!(
            &*sql.next.sql,
            "SELECT `id_url`, `key`, CASE WHEN OCTET_LENGTH(CONVERT(`data` USING utf8mb4)) > ? THEN NULL ELSE \
             CONVERT(`data` USING utf8mb4) END, OCTET_LENGTH(CONVERT(`data` USING utf8mb4)) FROM `url` \
             FORCE INDEX (`PRIMARY`) WHERE `id_url` > ? AND `id_url` <= ? ORDER BY `id_url` LIMIT ?"
        );
        assert!(
            sql.first.sql.contains("WHERE `id_url` <= ? ORDER BY"),
            "{}",
            sql.first.sql
        );
    }

    #[test]
    fn condition_and_ids_stay_inside_the_range() {
        let three = [1, 2, 3].map(|id| Id::Key(KeyValue::Uint(id)));
        let sql = page(&table(Some("a = 1 OR b = 2 -- why")), Some(&three))
            .next
            .sql;
        assert!(
            sql.contains(
                "FROM `url` WHERE (a = 1 OR b = 2 -- why\n) AND `id_url` > ? AND `id_url` <= ? AND `id_url` IN (?, ?, ?) ORDER"
            ),
            "{sql}"
        );
        let none = page(&table(None), Some(&[])).next.sql;
        assert!(none.contains("AND 1 = 0 ORDER"), "{none}");
        assert_eq!(
            &*count(&table(Some("x")), Some(&three[..1])).sql,
            "SELECT COUNT(*) FROM `url` WHERE (x\n) AND 1 = 1 AND `id_url` IN (?)"
        );
    }

    fn composite(dialect: Dialect) -> Checked {
        let mut catalogue = fixtures::catalogue();
        for index in &mut catalogue.unique {
            index.hint = String::new();
        }
        let from = fixtures::from(&["store", "price", "fk_url"]);
        shape::check(dialect, "here", &from, &catalogue).expect("checked")
    }

    #[test]
    fn several_columns_are_compared_as_each_engine_uses_its_index() {
        let clause = |dialect| {
            let sql = page(&composite(dialect), None).next.sql;
            let start = sql.find("WHERE").expect("has one");
            sql[start..].to_owned()
        };
        assert_eq!(
            clause(Dialect::Mysql),
            "WHERE (`store` > ? OR (`store` = ? AND `price` > CAST(? AS DECIMAL(65,2))) \
             OR (`store` = ? AND `price` = CAST(? AS DECIMAL(65,2)) AND `fk_url` > ?)) \
             AND (`store` < ? OR (`store` = ? AND `price` < CAST(? AS DECIMAL(65,2))) \
             OR (`store` = ? AND `price` = CAST(? AS DECIMAL(65,2)) AND `fk_url` <= ?)) \
             ORDER BY `store`, `price`, `fk_url` LIMIT ?"
        );
        assert_eq!(
            clause(Dialect::Postgres),
            "WHERE (\"store\", \"price\", \"fk_url\") > ($2, CAST(CAST($3 AS text) AS DECIMAL(65,2)), $4) \
             AND (\"store\", \"price\", \"fk_url\") <= ($5, CAST(CAST($6 AS text) AS DECIMAL(65,2)), $7) \
             ORDER BY \"url\".\"store\", \"url\".\"price\", \"url\".\"fk_url\" LIMIT CAST($8 AS bigint)"
        );
        assert_eq!(
            &*last(&composite(Dialect::Sqlite), None).sql,
            "SELECT \"store\", \"price\", \"fk_url\" FROM \"url\" \
             ORDER BY \"store\" DESC, \"price\" DESC, \"fk_url\" DESC LIMIT 1"
        );
    }

    #[test]
    fn each_placeholder_gets_its_own_value() {
        let key = |store: &str, id| {
            Cursor(vec![
                KeyValue::Text(store.into()),
                KeyValue::Decimal("1.50".into()),
                KeyValue::Int(id),
            ])
        };
        let (after, until) = (key("AT", 1), key("DE", 2));
        let values = Values {
            value_limit: 9,
            after: Some(&after),
            until: Some(&until),
            from: None,
            ids: &[],
            rows: 7,
        };
        let sql = page(&composite(Dialect::Mysql), None).next;
        let shown: Vec<String> = sql
            .bound(&values)
            .expect("as many columns")
            .iter()
            .map(|bound| match bound {
                Bound::Number(number) => format!("{number}"),
                Bound::Key(key) => key.to_string(),
                Bound::Text(text) => (*text).to_owned(),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "9", "'AT'", "'AT'", "1.50", "'AT'", "1.50", "1", "'DE'", "'DE'", "1.50", "'DE'",
                "1.50", "2", "7"
            ]
        );
        let short = Cursor::single(KeyValue::Int(1));
        let values = Values {
            until: Some(&short),
            ..values
        };
        assert_eq!(
            sql.bound(&values).expect_err("too few columns").kind,
            ErrorKind::Internal
        );
    }

    #[test]
    fn rows_of_a_key_of_several_columns_are_found_by_their_places() {
        let place = |number| {
            Cursor(vec![
                KeyValue::Text("de".into()),
                KeyValue::Decimal("1.50".into()),
                KeyValue::Int(number),
            ])
        };
        let exact = [place(1).exact(), place(2).exact()];
        for (dialect, says) in [
            (
                Dialect::Mysql,
                " AND ((`store` = ? AND `price` = CAST(? AS DECIMAL(65,2)) AND `fk_url` = ?) OR (`store` = ",
            ),
            (Dialect::Postgres, " AND ((\"store\" = $5 AND "),
            (
                Dialect::Sqlite,
                " AND (\"store\", \"price\", \"fk_url\") IN (VALUES (?, CAST(? AS DECIMAL(65,2)), ?), (?, ",
            ),
        ] {
            let table = composite(dialect);
            let ids = typed_ids(&table, &exact).expect("places");
            let sql = page(&table, Some(&ids)).first;
            assert!(sql.sql.contains(says), "{}", sql.sql);
            let until = place(2);
            let values = Values {
                until: Some(&until),
                ids: &ids,
                ..Values::default()
            };
            let bound = sql.bound(&values).expect("nothing is missing");
            assert_eq!(bound.len(), sql.sql.matches(['?', '$']).count());
        }
        let table_of_three = composite(Dialect::Mysql);
        let Cursor(mut keys) = place(1);
        keys.swap(0, 2);
        let other_types = Cursor(keys.clone()).exact();
        keys.pop();
        for wrong in [other_types, Cursor(keys).exact()] {
            assert!(typed_ids(&table_of_three, &[wrong]).is_err());
        }
        let one = Cursor::single(KeyValue::Uint(7)).exact();
        assert_eq!(
            typed_ids(&table(None), &[one]).expect("fits"),
            [Id::Place(vec![KeyValue::Uint(7)])]
        );
    }

    #[test]
    fn rows_that_changed_are_one_more_condition() {
        for (dialect, clause) in [
            (
                Dialect::Mysql,
                " AND (`moved` >= CAST(? AS DATETIME(6)) OR `moved` IS NULL) ORDER",
            ),
            (
                Dialect::Postgres,
                " AND (\"moved\" >= CAST(CAST($3 AS text) AS DATETIME(6)) OR \"moved\" IS NULL) ORDER",
            ),
            (
                Dialect::Sqlite,
                " AND (unixepoch(\"moved\", 'auto', 'subsec') >= unixepoch(CAST(? AS DATETIME(6)), 'subsec') \
                 OR unixepoch(\"moved\", 'auto', 'subsec') IS NULL) ORDER",
            ),
        ] {
            let mut catalogue = fixtures::catalogue();
            catalogue.columns.push(shape::Column {
                name: "moved".into(),
                type_text: "datetime(6)".into(),
                kind: ColumnKind::Other,
                key: Some(KeyType::cast(KeyKind::Timestamp, "DATETIME(6)")),
                is_id: true,
                nullable: true,
                indexed: true,
            });
            let checked = |rows| {
                let since = Since {
                    column: "moved".into(),
                    watermark: KeyValue::Timestamp("2024-02-29 12:00:00".into()),
                    rows,
                };
                shape::check(dialect, "here", &fixtures::from(&["id_url"]), &catalogue)
                    .expect("checked")
                    .changed_since("here", Some(&since))
                    .expect("a column that tells")
            };
            let sql = page(&checked(None), None).first;
            assert!(sql.sql.contains(clause), "{}", sql.sql);
            assert!(sql.sql.contains("FORCE INDEX (`PRIMARY`)"), "{}", sql.sql);
            let until = Cursor::single(KeyValue::Uint(9));
            let values = Values {
                until: Some(&until),
                ..Values::default()
            };
            let bound = sql.bound(&values).expect("nothing is missing");
            assert!(
                matches!(bound[2], Bound::Key(KeyValue::Timestamp(_))),
                "{bound:?}"
            );
            // Few of them are looked for by the column's own index, where the server can.
            let few = page(&checked(Some(10_000)), None).first.sql;
            assert_eq!(few.contains("FORCE INDEX"), dialect == Dialect::Sqlite);
            let many = page(&checked(Some(10_001)), None).first.sql;
            assert!(many.contains("FORCE INDEX"), "{many}");
        }
    }

    #[test]
    fn rows_are_found_by_their_places_or_by_their_entities() {
        let place = Cursor::single(KeyValue::Uint(7)).exact();
        let both = [place.clone(), "12".to_owned(), "12a".to_owned()];
        let ids = typed_ids(&table(None), &both).expect("one that no row can have is left out");
        assert_eq!(
            ids,
            [
                Id::Place(vec![KeyValue::Uint(7)]),
                Id::Key(KeyValue::Uint(12))
            ]
        );
        let sql = page(&table(None), Some(&ids)).first.sql;
        assert!(
            sql.contains(" AND (`id_url` IN (?) OR `id_url` IN (?)) ORDER"),
            "{sql}"
        );
        let other_table = Cursor(vec![KeyValue::Uint(7), KeyValue::Uint(8)]).exact();
        assert!(typed_ids(&table(None), &[place, other_table]).is_err());
        let until = Cursor::single(KeyValue::Uint(9));
        let values = Values {
            until: Some(&until),
            ids: &ids,
            ..Values::default()
        };
        let first = page(&table(None), Some(&ids)).first;
        let bound = first.bound(&values).expect("nothing is missing");
        assert_eq!(bound.len(), 5);
    }

    #[test]
    fn ids_are_typed_as_their_column() {
        let table = table(None);
        let ids = typed_ids(&table, &["18446744073709551615".into()]).expect("fits");
        assert_eq!(ids, [Id::Key(KeyValue::Uint(u64::MAX))]);
        for bad in ["-1", "1; drop table t", "", "1.5"] {
            let error = typed_ids(&table, &[bad.into()]).expect_err("no number");
            assert_eq!(error.kind, ErrorKind::Refused);
        }
        let other = ColumnKind::Other;
        for (kind, good, bad) in [
            (KeyKind::Decimal, "-12.50", "1e3"),
            (KeyKind::Decimal, "0", "."),
            (KeyKind::Date, "2024-02-29", "today"),
            (KeyKind::Timestamp, "2024-02-29 12:00:00.5", "now()"),
            (KeyKind::Time, "-838:59:59", "noon"),
            (
                KeyKind::Uuid,
                "123e4567-e89b-12d3-a456-426614174000",
                "123e",
            ),
            (KeyKind::Bytes, "0x00ff", "0x0"),
        ] {
            assert!(typed_id(other, Some(kind), good).is_some(), "{good}");
            assert_eq!(typed_id(other, Some(kind), bad), None, "{bad}");
        }
        assert_eq!(
            typed_id(other, Some(KeyKind::Text), "x y"),
            Some(Id::Text("x y".into()))
        );
        let error = typed_ids(&composite(Dialect::Mysql), &["1".into()]).expect_err("which one");
        assert_eq!(
            error.message,
            "`--ids` cannot say which column of `url` it means: the cursor has 3 columns; name one as `from.entity`"
        );
        let many = vec!["1".to_owned(); MOST_IDS + 1];
        assert_eq!(
            typed_ids(&table, &many).expect_err("too many").message,
            "`--ids` names 10001 ids; at most 10000 fit one run"
        );
    }
}
