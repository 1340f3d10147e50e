//! A whole Spryker shop, generated: 85 tables with what such tables hold after years, restored and compared with what PHP
//! says the shop itself would have written.

mod expect;
mod fill;
mod rows;
mod tables;

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
    process::ChildStdin,
    thread,
    time::{Duration, Instant},
};

use futures_util::TryStreamExt;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection, Row};

use self::{
    expect::{Expectation, INDEX_PREFIX, tell},
    fill::{Written, fill},
    tables::{Dialect, Table},
};
use crate::{
    postgres::PgDatabase,
    redis_server::RedisServer,
    search_server::SearchServer,
    shop::{Named, PLAN, Running, Shop, told},
};

/// How many rows the shop has, in all its tables together.
fn total() -> usize {
    std::env::var("RK_SHOP_ROWS").map_or(30_000, |rows| {
        rows.parse().expect("RK_SHOP_ROWS is a number")
    })
}

/// Hands the tables to PHP, by a connection of its own: the program under test plays no part.
fn feed(
    mut dump: ChildStdin,
    url: String,
    dialect: Dialect,
    tables: Vec<Table>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            match dialect {
                Dialect::MariaDb => {
                    let mut connection = MySqlConnection::connect(&url)
                        .await
                        .expect("MariaDB answers");
                    for table in tables {
                        tell(&mut dump, &format!("T {}", table.name));
                        let mut lines =
                            sqlx::query(AssertSqlSafe(table.dump(dialect))).fetch(&mut connection);
                        while let Some(line) = lines.try_next().await.expect("a row") {
                            tell(&mut dump, line.get(0));
                        }
                    }
                }
                Dialect::Postgres => {
                    let mut connection = PgConnection::connect(&url)
                        .await
                        .expect("PostgreSQL answers");
                    for table in tables {
                        tell(&mut dump, &format!("T {}", table.name));
                        let mut lines =
                            sqlx::query(AssertSqlSafe(table.dump(dialect))).fetch(&mut connection);
                        while let Some(line) = lines.try_next().await.expect("a row") {
                            tell(&mut dump, line.get(0));
                        }
                    }
                }
            }
        });
    })
}

/// Writes a plan that leaves all it can to the preset, and returns the tables by the names of their resources.
fn write_plan<D: Named>(
    shop: &Shop<D>,
    tables: &[Table],
    compress: &str,
    search: &SearchServer,
) -> HashMap<String, &'static str> {
    let mut plan = format!(
        "version: 1\nname: shop\npreset: spryker\nsource: {{ url: \"${{DATABASE_URL}}\" }}\n\
         defaults: {{ dead_letters: {{ max: 100000, percent: 100 }} }}\n\
         targets:\n  storage: {{ redis: {{ url: \"${{REDIS_URL}}\", compress: {compress} }} }}\n"
    );
    let _ = writeln!(
        plan,
        "  search: {{ elasticsearch: {{ url: \"{}\", prefix: \"{INDEX_PREFIX}\" }} }}\nstores: [DE, AT]\nresources:",
        search.url()
    );
    let mut names = HashMap::new();
    for table in tables {
        let kind = if table.search { "search" } else { "storage" };
        let name = if let Some(console) = table.console {
            let tables = Table::all();
            let same = tables.iter().filter(|other| other.console == table.console);
            let name = if same.count() == 2 {
                format!("{console}/{kind}")
            } else {
                console.to_owned()
            };
            let _ = writeln!(plan, "  - name: {name}");
            name
        } else {
            // No plugin restores these two, so the preset knows no name for them.
            let more = if table.search {
                ", store: store }, type: page"
            } else {
                " }"
            };
            let _ = writeln!(
                plan,
                "  - {{ name: health_{kind}, to: {kind}, from: {{ table: {}, cursor: [{}], key: key, value: data{more} }}",
                table.name, table.id
            );
            format!("health_{kind}")
        };
        names.insert(name, table.name);
    }
    shop.write_plan(&plan);
    names
}

/// Makes the indexes that `search:setup:sources` would have made.
fn create_indexes(search: &SearchServer, tables: &[Table]) {
    let kinds: BTreeSet<_> = tables.iter().filter_map(|table| table.kind).collect();
    for kind in kinds {
        for store in ["de", "at"] {
            search.must(
                "PUT",
                &format!("/{INDEX_PREFIX}_{store}_{kind}"),
                &json!({
                    "settings": { "index": { "number_of_shards": 1, "number_of_replicas": 0 } },
                    "mappings": { "dynamic": false },
                }),
            );
        }
    }
}

/// What the reasons of the planted rows say.
const REASONS: [&str; 7] = [
    "the value is NULL",
    "the value is empty",
    "the value is JSON, but neither an object nor a list",
    "the value is broken JSON: it ends after ",
    "the value is broken JSON: half a surrogate pair",
    "the value is cut at 65,535 bytes: the column is TEXT",
    "`alias_keys` is cut at 255 characters",
];

/// Runs the plan to its end and returns the rows that it names as dead letters: table and id, in order.
fn restore<D: Named>(shop: &Shop<D>, names: &HashMap<String, &'static str>) -> Vec<(String, u64)> {
    let begun = Instant::now();
    // A debug build moves some thousands of rows a second, if it has a processor for itself.
    let patience = Duration::from_mins(2) + Duration::from_millis(total() as u64 * 4);
    Running::start(shop.command(&format!("run {PLAN}")))
        .finish_within(patience)
        .exits(4);
    eprintln!("restored in {:?}", begun.elapsed());
    let shown = shop
        .rekindle(&format!("dead-letters show {PLAN} --json --limit 1000000"))
        .exits(0);
    let mut reasons = BTreeSet::new();
    let mut letters: Vec<_> = shown
        .json()
        .iter()
        .map(|letter| {
            let text = |name: &str| letter[name].as_str().expect("a text").to_owned();
            reasons.insert(text("reason"));
            (
                names[&text("resource")].to_owned(),
                text("cursor").parse().expect("an id"),
            )
        })
        .collect();
    letters.sort_unstable();
    // Every kind of what was planted is told apart from the others.
    for part in REASONS {
        assert!(
            reasons.iter().any(|reason| reason.contains(part)),
            "`{part}` is none of {reasons:?}"
        );
    }
    letters
}

/// Asserts that the servers hold what PHP says, and that exactly the planted rows are missing.
fn assert_restored<D: Named>(
    shop: &Shop<D>,
    (written, tables): (&Written, Vec<Table>),
    letters: &[(String, u64)],
    (dialect, gzip): (Dialect, bool),
    search: &SearchServer,
) {
    let planted: Vec<_> = written
        .planted
        .iter()
        .map(|(name, id)| ((*name).to_owned(), *id))
        .collect();
    assert_eq!(letters, planted, "dead letters and what was planted");
    let (php, dump) = Expectation::start(gzip);
    let feeding = feed(dump, shop.database.url(), dialect, tables);
    let compared = php.compare(&shop.redis, search);
    feeding.join().expect("PHP got everything");
    assert_eq!(
        compared.broken, planted,
        "what PHP cannot read and what was planted"
    );
    assert_eq!(written.rows, total());
    // None of these would have left the shop by its own export.
    assert!(written.behind_holes > total() / 10);
    told(&format!(
        "{} keys, {} documents, {} dead letters, {:?}",
        compared.keys,
        compared.documents,
        letters.len(),
        compared.indexes
    ));
}

/// Returns the memory that the shop's Redis uses.
fn memory<D: Named>(shop: &Shop<D>) -> u64 {
    let info: String = shop.redis.ask(0, redis::cmd("INFO").arg("memory"));
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    line.and_then(|used| used.parse().ok()).expect("a number")
}

/// Asserts that a dry run foretold what the run did, give or take a fifth: rows, bytes, and the memory of the Redis.
fn assert_foretold<D: Named>(shop: &Shop<D>, dry: &Value, grown: u64) {
    let run = &shop.rekindle(&format!("history {PLAN} --json")).exits(0);
    let run = &run.json()[0][0];
    let number = |of: &Value| of.as_u64().expect("a number");
    for (what, foretold, found) in [
        ("rows", number(&dry["rows_left"]), number(&run["rows"])),
        ("bytes", number(&dry["bytes_left"]), number(&run["bytes"])),
        (
            "bytes of memory",
            number(&dry["target_memory"]["storage"]),
            grown,
        ),
    ] {
        let ratio = foretold as f64 / found as f64;
        told(&format!(
            "{foretold} {what} foretold, {found} found: {ratio:.3}"
        ));
        assert!((0.8..=1.2).contains(&ratio), "{what}");
    }
}

#[tokio::test]
async fn a_shop_of_mariadb_is_restored_as_php_would_write_it() {
    let mut shop = Shop::open("spryker").await;
    let begun = Instant::now();
    let written = fill(&Table::all(), total(), Dialect::MariaDb, async |sql| {
        shop.database.execute(sql).await;
    })
    .await;
    eprintln!("{} rows written in {:?}", written.rows, begun.elapsed());
    let search = SearchServer::shared("elasticsearch");
    let tables = Table::all();
    create_indexes(&search, &tables);
    let names = write_plan(&shop, &tables, "none", &search);
    let dry = shop.rekindle(&format!("run {PLAN} --dry-run --json"));
    let before = memory(&shop);
    let letters = restore(&shop, &names);
    let grown = memory(&shop).saturating_sub(before);
    assert_foretold(&shop, &dry.exits(0).json()[0], grown);
    let mode = (Dialect::MariaDb, false);
    assert_restored(&shop, (&written, tables), &letters, mode, &search);
}

#[tokio::test]
async fn a_shop_of_postgres_is_restored_with_values_packed_as_php_packs_them() {
    let mut shop = Shop::of(PgDatabase::create("spryker").await, RedisServer::start());
    let begun = Instant::now();
    let written = fill(&Table::all(), total(), Dialect::Postgres, async |sql| {
        shop.database.execute(sql).await;
    })
    .await;
    eprintln!("{} rows written in {:?}", written.rows, begun.elapsed());
    let search = SearchServer::shared("opensearch");
    let tables = Table::all();
    create_indexes(&search, &tables);
    let names = write_plan(&shop, &tables, "gzip", &search);
    let letters = restore(&shop, &names);
    let mode = (Dialect::Postgres, true);
    assert_restored(&shop, (&written, tables), &letters, mode, &search);
}

/// What `init` writes of a whole shop is short, needs no hand, and leaves nothing to warn of.
#[tokio::test]
async fn a_plan_written_from_a_whole_shop_passes_as_it_is() {
    let mut shop = Shop::open("spryker_init").await;
    shop.database.reads_only().await;
    fill(&Table::all(), 2_000, Dialect::MariaDb, async |sql| {
        shop.database.execute(sql).await;
    })
    .await;
    let search = SearchServer::shared("elasticsearch");
    create_indexes(&search, &Table::all());
    let rekindle = |words: &str| {
        let mut command = shop.command(words);
        command
            .env("SEARCH_URL", search.url())
            .env("SPRYKER_SEARCH_INDEX_PREFIX", INDEX_PREFIX);
        Running::start(command).finish()
    };
    let url = shop.database.url();
    rekindle(&format!(
        "init --source {url} --preset spryker -o whole.yaml"
    ))
    .exits(0);
    rekindle("validate whole.yaml --offline --strict").exits(0);
    rekindle("validate whole.yaml --strict").exits(0);
    rekindle("run whole.yaml --dry-run --strict").exits(0);
    let text = std::fs::read_to_string(shop.path("whole.yaml")).expect("the plan");
    let tables = Table::all();
    let named = text.lines().filter(|line| line.starts_with("  - name: "));
    assert_eq!(named.count(), tables.len());
    // Only the two tables that no plugin restores need more than a name.
    assert_eq!(text.matches("    from:\n").count(), 2, "{text}");
    for line in [
        "preset: spryker ",
        "  - name: product_abstract/search ",
        "    fallback: { to: none }           # nothing in core builds its rows again by their ids",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}
