//! A shop with broken rows in SQLite, its publisher, and a dump in files, through the program itself.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

pub const ROWS: i64 = 600;

/// Two rows of each entity, one for each locale. The values come from `truth`, as a shop's publisher makes them.
const TABLES: &str = "
CREATE TABLE entity (id INTEGER PRIMARY KEY);
CREATE TABLE truth (e INTEGER, locale TEXT, data TEXT);
CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, e INTEGER, key TEXT UNIQUE, data TEXT);
CREATE INDEX t_e ON t (e);";

/// A publisher that deletes an entity's rows and inserts them again.
pub const ANEW: &str = "DELETE FROM t WHERE e IN ({ids}); \
    INSERT INTO t (e, key, data) SELECT e, 't:' || locale || ':' || e, data FROM truth WHERE e IN ({ids})";

pub struct Shop {
    pub folder: TempDir,
}

impl Shop {
    /// Makes a shop in which the German rows of the entities 5, 77 and 200 are broken.
    pub fn new() -> Self {
        let shop = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        shop.execute(&format!(
            "{TABLES}
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) INSERT INTO entity SELECT i FROM n;
             INSERT INTO truth SELECT id, locale, '{{\"' || locale || '\":' || id || '}}'
               FROM entity, (SELECT 'de' AS locale UNION SELECT 'en');
             INSERT INTO t (e, key, data) SELECT e, 't:' || locale || ':' || e, data FROM truth ORDER BY locale, e;
             UPDATE t SET data = NULL WHERE e IN (5, 77, 200) AND key LIKE 't:de:%';",
            ROWS / 2
        ));
        shop
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn execute(&self, sql: &str) {
        let database = rusqlite::Connection::open(self.path("shop.sqlite")).unwrap();
        database.execute_batch(sql).unwrap();
    }

    /// Writes a plan that calls this publisher, if any.
    pub fn plan(&self, by: Option<&str>) {
        self.plan_with(by, "ids: { table: entity, column: id }", "");
    }

    pub fn plan_with(&self, by: Option<&str>, ids: &str, more: &str) {
        let fallback = by.map_or_else(String::new, |by| {
            format!("    fallback: {{ trigger: t, {ids}, by: {by} }}\n    drain: {{ settle: 1ms, within: 10s }}\n")
        });
        let text = format!(
            "version: 1\nname: shop\nsource: {{ url: \"sqlite:shop.sqlite\" }}\ntargets: {{ dump: {{ file: {{ path: out }} }} }}\n\
             resources:\n  - name: t\n    from: {{ table: t, cursor: [id], key: key, value: data, entity: e }}\n{fallback}\
             defaults: {{ chunk: {{ rows: 50 }}, retry: {{ attempts: 3, base: 1ms, cap: 2ms }} }}\n{more}"
        );
        fs::write(self.path("shop.yaml"), text).unwrap();
    }

    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
        command
            .args(words.split_whitespace())
            .current_dir(self.folder.path())
            .env_remove("RK_FAIL");
        command
    }

    /// Runs the program to its end and returns what it said, having looked at the exit code.
    #[track_caller]
    pub fn rekindle(&self, words: &str, code: i32) -> String {
        let output = self.command(words).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{words}: {said}");
        said
    }

    /// Asserts that loading every file of the dump, in the order of their names, gives the table.
    #[track_caller]
    pub fn assert_dumped(&self) {
        let database = rusqlite::Connection::open(self.path("shop.sqlite")).unwrap();
        let mut statement = database
            .prepare("SELECT key, data FROM t WHERE key IS NOT NULL AND data IS NOT NULL")
            .unwrap();
        let wanted: BTreeMap<String, String> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let mut files: Vec<PathBuf> = fs::read_dir(self.path("out"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension() == Some("resp".as_ref()))
            .collect();
        // `t%retry-…` is loaded after `t`.
        files.sort_by_key(|path| (path.to_string_lossy().contains('%'), path.clone()));
        let loaded: BTreeMap<String, String> = files.iter().flat_map(|path| pairs(path)).collect();
        assert_eq!(loaded, wanted);
    }

    #[track_caller]
    pub fn assert_no_dead_letters(&self) {
        let said = self.rekindle("dead-letters list shop.yaml", 0);
        assert!(said.starts_with("no dead letters"), "{said}");
    }
}

pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

pub fn sql(statement: &str) -> String {
    format!("{{ sql: {{ url: \"sqlite:shop.sqlite\", statement: \"{statement}\" }} }}")
}

/// Returns the pairs that the commands of a file set.
pub fn pairs(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap();
    let mut rest = text.as_str();
    let line = |rest: &mut &str| -> String {
        let (line, after) = rest.split_once("\r\n").expect("a line");
        *rest = after;
        line.to_owned()
    };
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let words: usize = line(&mut rest).strip_prefix('*').unwrap().parse().unwrap();
        let words: Vec<String> = (0..words)
            .map(|_| {
                let bytes: usize = line(&mut rest).strip_prefix('$').unwrap().parse().unwrap();
                let word = rest[..bytes].to_owned();
                rest = &rest[bytes + 2..];
                word
            })
            .collect();
        assert!(
            words[0].ends_with("SET") && words.len() % 2 == 1,
            "{}",
            words[0]
        );
        pairs.extend(
            words[1..]
                .chunks(2)
                .map(|pair| (pair[0].clone(), pair[1].clone())),
        );
    }
    pairs
}
