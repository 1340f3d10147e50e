//! Ids put into a statement of the plan's author, for three dialects. Pure.

use crate::cursor::unhex;

/// Which database reads the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Mysql,
    Postgres,
    Sqlite,
}

/// Returns `statement` with the ids in the place of each `{ids}`.
pub(super) fn filled(dialect: Dialect, statement: &str, ids: &[String]) -> String {
    let literals: Vec<String> = ids.iter().map(|id| literal(dialect, id)).collect();
    statement.replace("{ids}", &literals.join(", "))
}

/// Returns an id as a literal that can be nothing else. Integers stay integers, so that an index on them is used. What an id of
/// a binary column reads as stands twice, as those bytes and as the text: which of both it is, the column decides.
fn literal(dialect: Dialect, id: &str) -> String {
    if is_integer(id) {
        return id.to_owned();
    }
    let text = text(dialect, id);
    match id.strip_prefix("0x") {
        Some(digits) if !digits.is_empty() && unhex(digits).is_some() => match dialect {
            Dialect::Mysql | Dialect::Sqlite => format!("X'{digits}', {text}"),
            Dialect::Postgres => format!("'\\x{digits}', {text}"),
        },
        _ => text,
    }
}

fn text(dialect: Dialect, id: &str) -> String {
    match dialect {
        // Hexadecimal: whether a backslash escapes depends on the session.
        Dialect::Mysql => {
            let mut text = "_utf8mb4 X'".to_owned();
            for byte in id.bytes() {
                text += &format!("{byte:02x}");
            }
            text + "'"
        }
        // Of no type yet, so that a text id as well as a UUID compares; the session says that backslashes are letters.
        Dialect::Postgres | Dialect::Sqlite => {
            format!("'{}'", id.replace('\0', "").replace('\'', "''"))
        }
    }
}

fn is_integer(id: &str) -> bool {
    let digits = id.strip_prefix('-').unwrap_or(id);
    let leads = digits.len() > 1 && digits.starts_with('0');
    !leads && (1..=20).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_literals_and_nothing_else() {
        let ids = ["7", "-12", "a'); DROP TABLE x; --", "0x1", "007"].map(str::to_owned);
        let sql = "UPDATE t SET a = 1 WHERE id IN ({ids}) OR fk IN ({ids})";
        let quoted = "7, -12, 'a''); DROP TABLE x; --', '0x1', '007'";
        assert_eq!(
            filled(Dialect::Sqlite, sql, &ids),
            format!("UPDATE t SET a = 1 WHERE id IN ({quoted}) OR fk IN ({quoted})")
        );
        assert_eq!(
            filled(Dialect::Mysql, "({ids})", &ids[1..4]),
            "(-12, _utf8mb4 X'6127293b2044524f50205441424c4520783b202d2d', _utf8mb4 X'307831')"
        );
        let bytes = ["0x00ff".to_owned()];
        for (dialect, literals) in [
            (Dialect::Mysql, "X'00ff', _utf8mb4 X'307830306666'"),
            (Dialect::Postgres, "'\\x00ff', '0x00ff'"),
            (Dialect::Sqlite, "X'00ff', '0x00ff'"),
        ] {
            assert_eq!(filled(dialect, "{ids}", &bytes), literals);
        }
        assert_eq!(
            filled(Dialect::Postgres, "({ids})", &["\\".to_owned()]),
            "('\\')"
        );
    }
}
