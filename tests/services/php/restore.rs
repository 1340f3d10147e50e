//! A whole restore, compared with what PHP makes of every row.

use std::collections::{BTreeMap, HashMap};

use fastrand::Rng;

use super::{
    documents,
    oracle::{Oracle, Question},
};
use crate::shop::{PLAN, Shop, assert_same, resource};

const DOCUMENTS: usize = 3_000;

#[tokio::test]
async fn a_restore_writes_what_the_shop_would_have_written_and_names_the_rest() {
    let mut shop = Shop::open("php").await;
    shop.table("url").await;
    let mut random = Rng::with_seed(11);
    let mut values: Vec<Vec<u8>> = (0..DOCUMENTS)
        .map(|_| documents::document(&mut random))
        .collect();
    // Cut by its column, and one that needs a chunk of its own only once it is written as PHP writes it.
    values.push([&b"{\"a\":\""[..], &vec![b'x'; 65_535 - 6]].concat());
    values.push(format!("[\"{}\"]", "é".repeat(60_000)).into_bytes());
    for (index, values) in values.chunks(500).enumerate() {
        let rows: Vec<String> = (index * 500 + 1..)
            .zip(values)
            .map(|(id, value)| format!("({id}, 1, 'url:{id}', X'{}')", hex(value)))
            .collect();
        shop.database
            .execute(format!("INSERT INTO url VALUES {}", rows.join(",")))
            .await;
    }
    shop.write_plan(&format!(
        "version: 1\nname: shop\nsource: {{ url: \"${{DATABASE_URL}}\" }}\ntargets:\n  storage: \
         {{ redis: {{ url: \"${{REDIS_URL}}\", prefix: \"kv:\", value: php, compress: gzip }} }}\nresources:\n{}\
         defaults: {{ chunk: {{ rows: 100, bytes: 128KiB }}, dead_letters: {{ max: 100000, percent: 100 }} }}\n",
        resource("url")
    ));
    shop.rekindle(&format!("run {PLAN}")).exits(4);

    let (wanted, broken) = expected(&values);
    assert!(wanted.len() > DOCUMENTS / 2 && broken.len() > DOCUMENTS / 10);
    assert_same(&wanted, &shop.redis_content());
    let letters: BTreeMap<String, String> = shop
        .rekindle(&format!("dead-letters show {PLAN} --json --limit 100000"))
        .exits(0)
        .json()
        .iter()
        .map(|letter| {
            let text = |name: &str| letter[name].as_str().unwrap_or_default().to_owned();
            (text("cursor"), text("reason"))
        })
        .collect();
    assert_eq!(
        letters.keys().collect::<Vec<_>>(),
        broken.iter().collect::<Vec<_>>()
    );
    assert_eq!(
        letters[&(DOCUMENTS + 1).to_string()],
        "the value is cut at 65,535 bytes: the column is TEXT"
    );
}

/// Returns what PHP stores, by key, and the ids of those that it cannot read, in the order of their text.
fn expected(values: &[Vec<u8>]) -> (HashMap<Vec<u8>, Vec<u8>>, Vec<String>) {
    let questions: Vec<_> = values.iter().cloned().map(Question::Json).collect();
    let mut forms = Oracle::ask(questions);
    let (mut written, mut broken) = (Vec::new(), Vec::new());
    for id in 1..=values.len() {
        if forms.answer().is_none() {
            broken.push(id.to_string());
            continue;
        }
        written.push((
            format!("kv:url:{id}").into_bytes(),
            forms.answer().expect("the form of Redis"),
        ));
        forms.answer().expect("the form of the index");
    }
    let long: Vec<_> = written
        .iter()
        .filter(|(_, value)| value.len() > 200)
        .map(|(_, value)| Question::Gzip(value.clone()))
        .collect();
    assert!(
        long.len() > 100,
        "{} values are long enough to be packed",
        long.len()
    );
    let mut packed = Oracle::ask(long);
    for (_, value) in &mut written {
        if value.len() > 200 {
            *value = packed.answer().expect("packed");
        }
    }
    broken.sort();
    (written.into_iter().collect(), broken)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0xf])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}
