//! Makes the shop of `make demo`: a SQLite file with the five tables of plans/demo.yaml, 200,000 rows in all.
//!
//! Every call makes the same rows, so that two restores can be compared. The ids have gaps, as those of a shop that
//! has lived for a while do: the first ones are gone, here and there a few, once a thousand in a row. A few rows of
//! `cms_block` are broken, as an import that failed leaves them; their entities lie in a table of their own.

use std::{env, error::Error, fs, path::Path};

use rekindle::report::human::count;
use rusqlite::{Connection, params};

/// One table: resource, table, columns of the id and of the entity, rows, and what a row holds.
struct Table {
    resource: &'static str,
    name: &'static str,
    id: &'static str,
    entity: &'static str,
    rows: u64,
    row: fn(u64, &mut Dice) -> (String, String),
}

const TABLES: [Table; 5] = [
    Table {
        resource: "url",
        name: "spy_url_storage",
        id: "id_url_storage",
        entity: "fk_url",
        rows: 60_000,
        row: url,
    },
    Table {
        resource: "cms_block",
        name: "spy_cms_block_storage",
        id: "id_cms_block_storage",
        entity: "fk_cms_block",
        rows: 5_000,
        row: cms_block,
    },
    Table {
        resource: "product_abstract",
        name: "spy_product_abstract_storage",
        id: "id_product_abstract_storage",
        entity: "fk_product_abstract",
        rows: 45_000,
        row: product_abstract,
    },
    Table {
        resource: "product_price",
        name: "spy_price_product_abstract_storage",
        id: "id_price_product_abstract_storage",
        entity: "fk_product_abstract",
        rows: 45_000,
        row: product_price,
    },
    Table {
        resource: "translation",
        name: "spy_glossary_storage",
        id: "id_glossary_storage",
        entity: "fk_glossary_key",
        rows: 45_000,
        row: translation,
    },
];

const LOCALES: [&str; 3] = ["de_de", "en_us", "fr_fr"];

const WORDS: [&str; 16] = [
    "Kamera",
    "Objektiv",
    "weiß",
    "grün",
    "étui",
    "housse",
    "tripod",
    "lens",
    "battery",
    "größer",
    "leicht",
    "rapide",
    "silver",
    "“pro”",
    "mini",
    "日本製",
];

/// A small generator of its own (SplitMix64): the same rows on every machine and with every version of every crate.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        // The remainder is below the length.
        choices[usize::try_from(self.throw(choices.len() as u64)).unwrap_or(0)]
    }

    fn words(&mut self, least: u64, most: u64) -> String {
        let count = least + self.throw(most - least + 1);
        let words: Vec<_> = (0..count).map(|_| self.of(&WORDS)).collect();
        words.join(" ")
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("usage: demo-shop FILE")?;
    let path = Path::new(&path);
    let half_made = path.with_extension("new");
    fs::remove_file(&half_made).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    let mut shop = Connection::open(&half_made)?;
    // A half-made file is thrown away, so nothing needs protection.
    shop.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    shop.execute_batch("CREATE TABLE spy_cms_block (id_cms_block INTEGER PRIMARY KEY)")?;
    for table in &TABLES {
        fill(&mut shop, table)?;
        println!("{:16} {:>7} rows", table.resource, count(table.rows));
    }
    let broken = shop.execute(
        "UPDATE spy_cms_block_storage SET data = NULL WHERE id_cms_block_storage % 500 = 0",
        [],
    )?;
    shop.execute_batch(
        "INSERT INTO spy_cms_block SELECT DISTINCT fk_cms_block FROM spy_cms_block_storage",
    )?;
    println!("{:16} {broken:>7} rows of cms_block are NULL", "");
    shop.close().map_err(|(_, error)| error)?;
    fs::rename(half_made, path)?;
    Ok(())
}

fn fill(shop: &mut Connection, table: &Table) -> rusqlite::Result<()> {
    let Table {
        name, id, entity, ..
    } = table;
    let work = shop.transaction()?;
    work.execute_batch(&format!(
        "CREATE TABLE {name} ({id} INTEGER PRIMARY KEY, {entity} INTEGER NOT NULL, key VARCHAR(255) NOT NULL, \
         data TEXT)"
    ))?;
    {
        let mut insert = work.prepare(&format!("INSERT INTO {name} VALUES (?, ?, ?, ?)"))?;
        let mut dice = Dice(table.rows);
        let mut id = 100;
        for row in 0..table.rows {
            id += 1 + match dice.throw(50) {
                0 => dice.throw(9),
                _ => 0,
            };
            if row == table.rows / 3 {
                id += 1_000;
            }
            let (key, data) = (table.row)(id, &mut dice);
            insert.execute(params![id.cast_signed(), (id / 3).cast_signed(), key, data])?;
        }
    }
    work.commit()
}

fn url(id: u64, dice: &mut Dice) -> (String, String) {
    let locale = LOCALES[usize::try_from(id % 3).unwrap_or(0)];
    let path = format!(
        "/{}/{}-{id}",
        &locale[..2],
        dice.of(&["kamera", "étui", "lens", "größe"])
    );
    let product = id / 3;
    let data = format!(
        r#"{{"id_url":{id},"url":"{path}","fk_resource_product_abstract":{product},"fk_resource_redirect":null,"fk_locale":{},"locale_urls":[{{"id_url":{id},"url":"{path}","locale_name":"{locale}"}}],"_timestamp":{}}}"#,
        id % 3 + 46,
        1_700_000_000 + id
    );
    (format!("url:{path}"), data)
}

fn cms_block(id: u64, dice: &mut Dice) -> (String, String) {
    let locale = dice.of(&LOCALES);
    let text = dice.words(60, 300);
    let data = format!(
        r#"{{"id_cms_block":{id},"name":"block-{id}","is_active":true,"template_path":"@CmsBlock/template/title_and_description.twig","content":"<div class=\"box\"><p>{text}<\/p><\/div>","valid_from":null,"valid_to":null}}"#
    );
    (format!("cms_block:de:{locale}:block-{id}"), data)
}

fn product_abstract(id: u64, dice: &mut Dice) -> (String, String) {
    let locale = LOCALES[usize::try_from(id % 3).unwrap_or(0)];
    let (name, text) = (dice.words(2, 4), dice.words(20, 60));
    let data = format!(
        r#"{{"id_product_abstract":{id},"sku":"{id:06}","name":"{name}","url":"/{}/{id}","description":"{text}","attributes":{{"brand":"{}","weight":"{} g","color":"{}"}},"super_attributes_definition":["color"],"meta_title":"{name}"}}"#,
        &locale[..2],
        dice.of(&["Canon", "Nikon", "Sony", "Asus"]),
        dice.throw(2_000),
        dice.of(&["weiß", "noir", "silver"])
    );
    (format!("product_abstract:de:{locale}:{id}"), data)
}

fn product_price(id: u64, dice: &mut Dice) -> (String, String) {
    let (net, gross) = (dice.throw(90_000), dice.throw(99_000));
    let data = format!(
        r#"{{"prices":{{"EUR":{{"priceData":null,"GROSS_MODE":{{"DEFAULT":{gross},"ORIGINAL":{}}},"NET_MODE":{{"DEFAULT":{net}}}}},"CHF":{{"priceData":null,"GROSS_MODE":{{"DEFAULT":{}}},"NET_MODE":{{"DEFAULT":{}}}}}}}}}"#,
        gross + 1_000,
        gross + gross / 10,
        net + net / 10
    );
    (format!("price_product_abstract:de:{id}"), data)
}

fn translation(id: u64, dice: &mut Dice) -> (String, String) {
    let locale = dice.of(&LOCALES);
    let text = dice.words(3, 12);
    let data = format!(r#"{{"id_glossary_key":{id},"value":"{text}"}}"#);
    (
        format!("translation:{locale}:page.section-{}.text-{id}", id % 97),
        data,
    )
}
