//! How far a replica is behind.

use std::time::Duration;

use sqlx::{Column, Executor, MySqlConnection, Row, mysql::MySqlRow};

use super::session::Flavour;
use crate::source::Lag;

/// Asks the server. By the text protocol, where every column comes as text; the greatest lag of several primaries counts.
pub(super) async fn lag(
    connection: &mut MySqlConnection,
    flavour: Flavour,
) -> Result<Lag, sqlx::Error> {
    let sql = match flavour {
        Flavour::Mariadb => "SHOW ALL SLAVES STATUS",
        // Since 8.0.22; 8.4 no longer knows the older word.
        Flavour::Mysql => "SHOW REPLICA STATUS",
    };
    let rows = connection.fetch_all(sqlx::raw_sql(sql)).await?;
    let mut lag = Lag::None;
    for row in &rows {
        match (seconds_behind(row)?, lag) {
            (None, _) => return Ok(Lag::Stopped),
            (Some(behind), Lag::Behind(most)) if most >= behind => {}
            (Some(behind), _) => lag = Lag::Behind(behind),
        }
    }
    Ok(lag)
}

/// Returns `Seconds_Behind_Master` (MariaDB) or `Seconds_Behind_Source` (MySQL); `None` while nothing is applied.
fn seconds_behind(row: &MySqlRow) -> Result<Option<Duration>, sqlx::Error> {
    let column = row
        .columns()
        .iter()
        .find(|column| column.name().starts_with("Seconds_Behind_"));
    let Some(column) = column else {
        return Ok(None);
    };
    let seconds: Option<String> = row.try_get_unchecked(column.ordinal())?;
    Ok(seconds
        .and_then(|seconds| seconds.parse().ok())
        .map(Duration::from_secs))
}
