//! The 85 storage and search tables of a shop: what `tables.tsv` says of each, as DDL for MariaDB and PostgreSQL.
//!
//! The file was made from the facts about Spryker's schemas (`*.schema.xml`, the synchronization behavior of Propel, the
//! plugins of `sync:data`), not from what the program under test knows of them.

use std::fmt::Write as _;

const TSV: &str = include_str!("tables.tsv");

/// Which SQL is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    MariaDb,
    Postgres,
}

/// One table.
pub struct Table {
    /// What `sync:data` calls it; several tables may have one name, and two tables have none.
    pub console: Option<&'static str>,
    /// Whether its rows are documents, as opposed to keys of Redis.
    pub search: bool,
    pub name: &'static str,
    /// The primary key.
    pub id: &'static str,
    /// What keys begin with.
    pub prefix: &'static str,
    pub store: Presence,
    pub locale: Presence,
    /// What the names of its indexes end with.
    pub kind: Option<&'static str>,
    /// The column that keys end with.
    pub suffix: Option<&'static str>,
    /// `sku:id_product_abstract`
    pub mappings: Option<&'static str>,
    /// `TEXT`, which ends after 65,535 bytes on MySQL and MariaDB, or `LONGTEXT`.
    pub data: &'static str,
    pub key_size: u16,
    pub key_unique: bool,
    /// The column with the id that `sync:data RESOURCE IDS` takes, where it is none of the others.
    pub entity: Option<&'static str>,
}

/// Whether a table has a column and whether it is filled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    No,
    Optional,
    Required,
}

impl Table {
    /// Returns all 85 tables.
    pub fn all() -> Vec<Self> {
        let tables: Vec<_> = TSV.lines().skip(1).map(Self::read).collect();
        assert_eq!(tables.len(), 85);
        tables
    }

    fn read(line: &'static str) -> Self {
        let fields: Vec<_> = line.split('\t').collect();
        let given = |index: usize| (fields[index] != "-").then_some(fields[index]);
        Self {
            console: given(1),
            search: fields[0] == "search",
            name: fields[2],
            id: fields[3],
            prefix: fields[4],
            store: Presence::read(fields[5]),
            locale: Presence::read(fields[6]),
            suffix: given(7),
            kind: given(9),
            mappings: given(10),
            data: fields[11],
            key_size: fields[12].parse().expect("a size"),
            key_unique: fields[13] == "yes",
            entity: given(14),
        }
    }

    /// Returns whether the column that keys end with holds numbers.
    pub fn suffix_is_number(&self) -> bool {
        self.suffix
            .is_some_and(|column| column.starts_with("fk_") || column.starts_with("id_"))
    }

    /// Returns whether the table has the column with aliases. All have, but for one: so it is with a shop's older modules.
    pub fn has_aliases(&self) -> bool {
        self.name != "spy_cms_slot_storage"
    }

    /// Returns whether the table has the column with a key that leads to the row's own. None of core has; the shop gave
    /// one to this table.
    pub fn has_mapping_key(&self) -> bool {
        self.name == "spy_url_redirect_storage"
    }

    /// Returns the columns that rows are written to, in their order.
    pub fn columns(&self) -> Vec<&'static str> {
        let mut columns = vec![self.id];
        columns.extend(self.entity);
        columns.extend(self.suffix);
        columns.extend((self.store != Presence::No).then_some("store"));
        columns.extend((self.locale != Presence::No).then_some("locale"));
        columns.push("data");
        columns.extend(self.has_aliases().then_some("alias_keys"));
        columns.extend(self.has_mapping_key().then_some("mapping_resource_key"));
        columns.push("key");
        columns.extend(self.search.then_some("structured_data"));
        columns
    }

    /// Returns the statement that makes the table.
    pub fn ddl(&self, dialect: Dialect) -> String {
        let postgres = dialect == Dialect::Postgres;
        let name = self.name;
        // Schemas say either; which of them plays no part in what is restored.
        let integer = match (name.len().is_multiple_of(2), postgres) {
            (true, true) => "INT8",
            (true, false) => "BIGINT",
            (false, _) => "INTEGER",
        };
        let mut columns = vec![if postgres {
            format!("{} {integer} NOT NULL", dialect.quoted(self.id))
        } else {
            format!(
                "{} {integer} NOT NULL AUTO_INCREMENT",
                dialect.quoted(self.id)
            )
        }];
        if let Some(column) = self.entity {
            columns.push(format!("{} INTEGER NOT NULL", dialect.quoted(column)));
        }
        if let Some(column) = self.suffix {
            let kind = if self.suffix_is_number() {
                "INTEGER"
            } else {
                "VARCHAR(255)"
            };
            columns.push(format!("{} {kind} NOT NULL", dialect.quoted(column)));
        }
        for (presence, column) in [
            (self.store, "store VARCHAR(128)"),
            (self.locale, "locale VARCHAR(16)"),
        ] {
            match presence {
                Presence::No => {}
                Presence::Optional => columns.push(column.to_owned()),
                Presence::Required => columns.push(format!("{column} NOT NULL")),
            }
        }
        let text = |kind| if postgres { "TEXT" } else { kind };
        columns.push(format!("data {}", text(self.data)));
        if self.search {
            columns.push(format!("structured_data {} NOT NULL", text("LONGTEXT")));
        }
        let more = [
            (self.has_aliases(), "alias_keys"),
            (self.has_mapping_key(), "mapping_resource_key"),
        ];
        let more = more
            .into_iter()
            .filter_map(|(has, name)| has.then_some(name));
        columns.extend(more.clone().map(|name| format!("{name} VARCHAR(255)")));
        // A unique index has room for 1,024 characters of three bytes, not of four.
        let charset = if !postgres && self.key_unique && self.key_size == 1024 {
            " CHARACTER SET utf8mb3"
        } else {
            ""
        };
        columns.push(format!(
            "{} VARCHAR({}){charset}",
            dialect.quoted("key"),
            self.key_size
        ));
        if !["spy_cms_slot_storage", "spy_file_storage"].contains(&name) {
            let kind = if postgres {
                "TIMESTAMP"
            } else {
                "TIMESTAMP NULL"
            };
            columns.extend([format!("created_at {kind}"), format!("updated_at {kind}")]);
        }
        columns.push(format!("PRIMARY KEY ({})", dialect.quoted(self.id)));
        let mut unique: Vec<_> = more.collect();
        unique.extend(self.key_unique.then_some("key"));
        for column in unique {
            let mut index = format!("{name}-unique-{column}");
            // What PostgreSQL cuts by itself and MariaDB refuses.
            index.truncate(63);
            let index = dialect.quoted(&index);
            let column = dialect.quoted(column);
            columns.push(if postgres {
                format!("CONSTRAINT {index} UNIQUE ({column})")
            } else {
                format!("UNIQUE INDEX {index} ({column})")
            });
        }
        let mut sql = String::new();
        if postgres {
            let _ = write!(sql, "CREATE SEQUENCE {name}_pk_seq; ");
        }
        let _ = write!(sql, "CREATE TABLE {name} ({});", columns.join(", "));
        sql
    }

    /// Returns the query whose one column is a line for `expect.php`: id, key, store, data, aliases, mapping key,
    /// hexadecimal and with `-` for NULL.
    pub fn dump(&self, dialect: Dialect) -> String {
        let read = |has, column| if has { column } else { "NULL" };
        let columns = [
            &dialect.quoted("key"),
            read(self.store != Presence::No, "store"),
            "data",
            read(self.has_aliases(), "alias_keys"),
            read(self.has_mapping_key(), "mapping_resource_key"),
        ]
        .map(|column| match dialect {
            Dialect::MariaDb => format!("COALESCE(HEX({column}), '-')"),
            Dialect::Postgres => {
                format!("COALESCE(encode(convert_to({column}::text, 'UTF8'), 'hex'), '-')")
            }
        });
        format!(
            "SELECT CONCAT_WS(' ', {}, {}) FROM {}",
            dialect.quoted(self.id),
            columns.join(", "),
            self.name
        )
    }
}

impl Dialect {
    /// Returns a name as it is written in SQL.
    pub fn quoted(self, name: &str) -> String {
        match self {
            Self::MariaDb => format!("`{name}`"),
            Self::Postgres => format!("\"{name}\""),
        }
    }
}

impl Presence {
    fn read(text: &str) -> Self {
        match text {
            "no" => Self::No,
            "optional" => Self::Optional,
            "required" => Self::Required,
            other => panic!("{other}"),
        }
    }
}
