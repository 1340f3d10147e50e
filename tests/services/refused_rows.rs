//! Rows that the target refuses, of a resource with a publisher: what the source holds is in order, so nobody writes it again.

use crate::{
    search_server::SearchServer,
    shop::{PLAN, Shop},
};

#[tokio::test]
async fn a_row_that_the_target_refuses_never_goes_to_the_publisher() {
    let server = SearchServer::shared("elasticsearch");
    server.create("t_refused");
    let mapping = serde_json::json!({ "properties": { "id": { "type": "integer" } } });
    server.must("PUT", "/t_refused/_mapping", &mapping);
    let mut shop = Shop::open("refused_rows").await;
    shop.table("url").await;
    shop.rows("url", 1, 100).await;
    shop.database
        .execute(
            "UPDATE url SET fk = id; UPDATE url SET data = '{\"id\":\"no number\"}' WHERE id IN (7, 8); \
             CREATE TABLE entity (id INT NOT NULL PRIMARY KEY); INSERT INTO entity SELECT id FROM url",
        )
        .await;
    let plan = |most: u32| {
        shop.write_plan(&format!(
            "version: 1\nname: shop\nsource: {{ url: \"${{DATABASE_URL}}\" }}\ntargets:\n  search: \
             {{ elasticsearch: {{ url: \"{}\", index: \"t_refused\" }} }}\nresources:\n  - name: url\n    \
             from: {{ table: url, cursor: [id], key: key, value: data, entity: fk }}\n    \
             fallback: {{ trigger: url, ids: {{ table: entity, column: id }}, by: {{ sql: {{ url: \"${{DATABASE_URL}}\", \
             statement: \"UPDATE url SET data = '{{}}' WHERE fk IN ({{ids}})\" }} }} }}\n\
             defaults: {{ dead_letters: {{ max: {most} }}, chunk: {{ rows: 50 }} }}\n",
            server.url()
        ));
    };
    plan(2);
    shop.rekindle(&format!("run {PLAN}")).exits(4);
    let letters = shop
        .rekindle(&format!("dead-letters show {PLAN} --json"))
        .exits(0);
    let kinds: Vec<_> = letters
        .json()
        .iter()
        .map(|one| one["kind"].clone())
        .collect();
    assert_eq!(kinds, ["refused", "refused"]);
    plan(1);
    let blocked = shop.rekindle(&format!("run --new {PLAN}")).exits(5);
    let why = "without those that the target refused they are not too many, so its publisher is not called; raise `dead_letters`";
    assert!(blocked.stderr.contains(why), "{blocked}");
    assert!(shop.status()["resources"][0]["fallback"].is_null());
    let called = "SELECT COUNT(*) FROM url WHERE data = '{}'";
    assert_eq!(shop.database.number(called).await, 0);
}
