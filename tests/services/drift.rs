//! Columns that change under a run, while it is at work and between two attempts.

use rusqlite::Connection;

use crate::shop::{Finished, PLAN, Running, Shop, resource};

/// A table of 3,000 rows in a database of its own, and how to change it.
enum Table {
    Mariadb(Shop),
    Sqlite(Shop),
}

impl Table {
    async fn all(name: &str) -> Vec<Self> {
        let mut mariadb = Shop::open(name).await;
        mariadb.table("url").await;
        mariadb.rows("url", 1, 3_000).await;
        let sqlite = Shop::open(&format!("{name}_lite")).await;
        let mut all = vec![Self::Mariadb(mariadb), Self::Sqlite(sqlite)];
        if let Self::Sqlite(_) = &all[1] {
            all[1]
                .alter(
                    "PRAGMA journal_mode = WAL; CREATE TABLE url (id INTEGER PRIMARY KEY, fk INT, key TEXT, data TEXT); \
                     WITH RECURSIVE seq(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM seq WHERE id < 3000) \
                     INSERT INTO url SELECT id, id, 'url:' || id, '{}' FROM seq",
                )
                .await;
        }
        for table in &all {
            let shop = table.shop();
            shop.plan(
                &resource("url"),
                "defaults:\n  chunk: { rows: 100 }\n  parallel: { resources: 1, partitions: 1 }\n",
            );
        }
        all
    }

    fn shop(&self) -> &Shop {
        match self {
            Self::Mariadb(shop) | Self::Sqlite(shop) => shop,
        }
    }

    async fn alter(&mut self, sql: &str) {
        match self {
            Self::Mariadb(shop) => shop.database.execute(sql).await,
            Self::Sqlite(shop) => Connection::open(shop.path("shop.db"))
                .expect("opens")
                .execute_batch(sql)
                .expect(sql),
        }
    }

    /// Returns the program with this source.
    fn command(&self, words: &str) -> std::process::Command {
        let mut command = self.shop().command(words);
        if let Self::Sqlite(shop) = self {
            command.env(
                "DATABASE_URL",
                format!("sqlite:{}", shop.path("shop.db").display()),
            );
        }
        command
    }

    fn run(&self) -> Finished {
        Running::start(self.command(&format!("run {PLAN}"))).finish()
    }

    /// Changes the value column to another type.
    async fn retype(&mut self) {
        self.alter(match self {
            Self::Mariadb(_) => "ALTER TABLE url MODIFY data VARCHAR(200)",
            Self::Sqlite(_) => {
                "ALTER TABLE url DROP COLUMN data; ALTER TABLE url ADD COLUMN data INT"
            }
        })
        .await;
    }

    /// Leaves a run that died after some chunks.
    fn half_done(&self) {
        let mut command = self.command(&format!("run {PLAN}"));
        command.env("RK_FAIL", "after_commit:4:sleep");
        let running = Running::start(command);
        self.shop().wait_for_chunks(4);
        running.kill_group();
    }
}

/// Asserts that the run stopped for its columns, in four parts.
#[track_caller]
fn assert_changed(finished: &Finished) {
    assert_eq!(finished.code, Some(5), "{finished}");
    let shown = &finished.stderr;
    for part in [
        "the columns of `url` changed under the run",
        "`--new`",
        "error:",
        "cause:",
        "safe:",
        "next:",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[tokio::test]
async fn s10_a_used_column_that_is_gone_or_retyped_between_two_chunks_stops_the_resource() {
    for gone in [true, false] {
        for mut table in Table::all(&format!("drift_{gone}")).await {
            let mut running = Running::start(table.command(&format!("run {PLAN} --json")));
            running.event("a chunk", |event| {
                (event["event"] == "chunk_stored").then_some(())
            });
            running.pause();
            if gone {
                table.alter(DROP).await;
            } else {
                table.retype().await;
            }
            running.go_on();
            let finished = running.finish().exits(5);
            let said = "the columns of `url` changed under the run";
            assert!(finished.stdout.contains(said), "{finished}");
        }
    }
}

const DROP: &str = "ALTER TABLE url DROP COLUMN data";

#[tokio::test]
async fn s10_a_used_column_that_is_gone_or_retyped_between_two_attempts_stops_the_run() {
    for mut table in Table::all("drift_between").await {
        table.half_done();
        table.retype().await;
        assert_changed(&table.run());
        table.alter(DROP).await;
        let shown = table.run().exits(3).stderr;
        assert!(shown.contains("has no column `data`"), "{shown}");
    }
}

#[tokio::test]
async fn s10_a_new_column_that_the_plan_does_not_use_stops_nothing() {
    for mut table in Table::all("drift_new").await {
        table.half_done();
        table.alter("ALTER TABLE url ADD COLUMN more INT").await;
        table.run().exits(0);
        assert_eq!(table.shop().key_count(), 3_000);
    }
}
