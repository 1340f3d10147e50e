//! What each code of a problem means, with a plan that has it and one that does not.

use super::diagnostic::Code;
use crate::nearest::nearest;

/// What there is to know about a [`Code`].
#[derive(Debug, Clone, Copy)]
pub struct Explanation {
    /// What the problem is and why it is one.
    pub what: &'static str,
    /// Part of a plan that has it; `None` where the file as a whole is the problem.
    pub wrong: Option<&'static str>,
    /// The same part without it.
    pub right: Option<&'static str>,
}

const fn told(what: &'static str) -> Explanation {
    Explanation {
        what,
        wrong: None,
        right: None,
    }
}

const fn shown(what: &'static str, wrong: &'static str, right: &'static str) -> Explanation {
    Explanation {
        what,
        wrong: Some(wrong),
        right: Some(right),
    }
}

impl Code {
    /// Returns the code with this text, with or without its room before it; the first where several rooms have the
    /// word.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|code| code.text() == text || code.word() == text)
    }

    /// Returns `; did you mean ...?` with the code that is nearest to what was typed, or nothing.
    #[must_use]
    pub fn nearest(typed: &str) -> String {
        let typed = typed.split_once("::").map_or(typed, |(_, word)| word);
        let near = nearest(typed, Self::ALL.into_iter().map(Self::word), 1);
        near.first()
            .map(|word| format!("; did you mean `{word}`?"))
            .unwrap_or_default()
    }

    fn word(self) -> &'static str {
        let text = self.text();
        text.split_once("::").map_or(text, |(_, word)| word)
    }

    /// Returns what there is to know about it.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one text after the other")]
    pub const fn explanation(self) -> Explanation {
        match self {
            Self::Unreadable => told(
                "The plan file is not there, is a folder, or may not be read by this user. Nothing of it is known, so \
                 nothing was done. Check the path; a plan is named as it is from where you are, not from its state file.",
            ),
            Self::TooLarge => told(
                "A plan of a whole shop has about a hundred kilobytes; this file is far larger than any plan, so another \
                 file was probably meant. It is not read to its end.",
            ),
            Self::NotText => told(
                "The file holds bytes that are not UTF-8, or control characters. Editors show them as nothing, and YAML \
                 does not know them. Save the file as UTF-8; a byte order mark and Windows line ends are fine, lines that \
                 end with CR alone are not.",
            ),
            Self::Syntax => shown(
                "The file is not YAML. The place that is shown is where the reading stopped; the mistake is there or \
                 shortly before. Usual ones: a tab before a key, a colon inside a text without quotes, a bracket that is \
                 never closed. Tags, and more than one document in a file, are no part of a plan.",
                "source: { url: \"sqlite:shop.db\"\n",
                "source: { url: \"sqlite:shop.db\" }\n",
            ),
            Self::TooComplex => told(
                "The file is nested deeper, or grows larger when its aliases are filled in, than any plan. Such files \
                 are made to use up memory, so the reading ends early.",
            ),
            Self::DuplicateKey => shown(
                "A key stands twice in one map. YAML readers usually take the last one in silence, and a resource would \
                 be lost without a word.",
                "name: shop\nname: other\n",
                "name: shop\n",
            ),
            Self::UnknownKey => shown(
                "A key that no plan has, usually a slip of the pen. It would have no effect, so it is not let through. \
                 `rekindle schema` prints all keys for editors.",
                "source: { uri: \"sqlite:shop.db\", url: \"sqlite:shop.db\" }\n",
                "source: { url: \"sqlite:shop.db\" }\n",
            ),
            Self::MissingKey => shown(
                "A key that has to be there is not, and nothing could be guessed for it.",
                "source: {}\n",
                "source: { url: \"sqlite:shop.db\" }\n",
            ),
            Self::WrongType => shown(
                "A list stands where a map belongs, a map where a single value belongs, and so on.",
                "source: \"sqlite:shop.db\"\n",
                "source: { url: \"sqlite:shop.db\" }\n",
            ),
            Self::InvalidValue => shown(
                "The value is none of the words, or not of the form, that is possible here. Sizes and times carry their \
                 unit, so that nobody has to know whether a number is in bytes or in kilobytes.",
                "defaults: { chunk: { bytes: 2000 } }\n",
                "defaults: { chunk: { bytes: 2MiB } }\n",
            ),
            Self::NotSupported => shown(
                "Part of the published grammar that this release does not carry out. It is refused and not skipped: a \
                 plan that counts on workers and runs without them would surprise you.",
                "defaults: { parallel: { workers: \"amqp://mq.test/jobs\" } }\n",
                "defaults: { parallel: { resources: 2 } }\n",
            ),
            Self::UnknownVersion => shown(
                "`version:` names the generation of the grammar. This release reads version 1.",
                "version: 2\n",
                "version: 1\n",
            ),
            Self::BadVariable => shown(
                "`${` is never closed, or what stands in it is no name. Write `${NAME}`, `${NAME:-default}` or \
                 `${file:path}`; a dollar sign that is meant as such is written `$$`.",
                "source: { url: \"${DATABASE URL}\" }\n",
                "source: { url: \"${DATABASE_URL:-sqlite:shop.db}\" }\n",
            ),
            Self::MissingVariable => shown(
                "`${NAME}` is not set in the environment and has no default. Set it, or write `${NAME:-default}`. Its \
                 value is never shown, logged or journaled.",
                "source: { url: \"${RK_NOBODY_SETS_THIS}\" }\n",
                "source: { url: \"${RK_NOBODY_SETS_THIS:-sqlite:shop.db}\" }\n",
            ),
            Self::MissingFile => shown(
                "A file that the plan names is not there or may not be read. Relative paths are relative to the plan.",
                "source: { url: \"${file:not/there.txt}\" }\n",
                "source: { url: \"sqlite:shop.db\" }\n",
            ),
            Self::Empty => shown(
                "A plan without targets or resources does nothing, which is hardly what was meant.",
                "resources: []\n",
                "resources:\n  - name: url\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n",
            ),
            Self::InvalidName => shown(
                "Names become parts of file names, of keys in the target and of command lines. They are letters, digits, \
                 `_`, `-`, `.` and, for resources, `/`.",
                "name: \"my shop\"\n",
                "name: my-shop\n",
            ),
            Self::DuplicateName => shown(
                "Two resources have one name. `--only`, the journal and reports could not tell them apart.",
                "resources:\n  \
                 - name: url\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n  \
                 - name: url\n    from: { table: spy_url_search, cursor: [id_url_search], key: key, value: data }\n",
                "resources:\n  \
                 - name: url\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n  \
                 - name: url_search\n    from: { table: spy_url_search, cursor: [id_url_search], key: key, value: data }\n",
            ),
            Self::UnknownResource => shown(
                "`after:`, or a name that a preset should know, is the name of no resource. A resource that waits for \
                 one that never comes would never begin.",
                "resources:\n  - name: url\n    after: [ulr]\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n",
                "resources:\n  - name: url\n    after: []\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n",
            ),
            Self::Cycle => shown(
                "Resources wait for each other by `after:`, so none of them could begin.",
                "resources:\n  \
                 - name: a\n    after: [b]\n    from: { table: a_storage, cursor: [id], key: key, value: data }\n  \
                 - name: b\n    after: [a]\n    from: { table: b_storage, cursor: [id], key: key, value: data }\n",
                "resources:\n  \
                 - name: a\n    from: { table: a_storage, cursor: [id], key: key, value: data }\n  \
                 - name: b\n    after: [a]\n    from: { table: b_storage, cursor: [id], key: key, value: data }\n",
            ),
            Self::UnknownTarget => shown(
                "`to:` is the name of no target of the plan.",
                "resources:\n  - name: url\n    to: cache\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n",
                "resources:\n  - name: url\n    to: storage\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n",
            ),
            Self::TargetKind => shown(
                "A target is exactly one store. Two stores that get the same rows are two targets, and two resources.",
                "targets: { storage: {} }\n",
                "targets: { storage: { redis: { url: \"redis://127.0.0.1/0\" } } }\n",
            ),
            Self::OutOfRange => shown(
                "A number, size or time with which nothing could work: chunks of no rows, no tries, more writers than \
                 any server takes.",
                "defaults: { chunk: { rows: 0 } }\n",
                "defaults: { chunk: { rows: 1000 } }\n",
            ),
            Self::CursorColumns => shown(
                "Rows are read along the columns of one unique index, in its order, none of them twice. That is how \
                 every row is read once, and how a run goes on where it stopped.",
                "resources:\n  - name: url\n    from: { table: spy_url_storage, cursor: [], key: key, value: data }\n",
                "resources:\n  - name: url\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n",
            ),
            Self::InvalidUrl => shown(
                "A connection URL that no server could be reached by. Characters like `@`, `/` and `#` in a password are \
                 written `%40`, `%2F` and `%23`.",
                "source: { url: \"shop.db\" }\n",
                "source: { url: \"sqlite:shop.db\" }\n",
            ),
            Self::SharedKeys => shown(
                "Two resources write the same keys of one table to one target: which value stays is chance. A `where:` \
                 on each keeps them apart.",
                "resources:\n  \
                 - name: url\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n  \
                 - name: again\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n",
                "resources:\n  \
                 - name: url\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n",
            ),
            Self::NoAliases => shown(
                "The shop reads rows of this table under more keys than one, and the plan leaves them out: those reads would \
                 find nothing. Without `aliases: none` and `mapping_key: none` they are written.",
                "preset: spryker\nresources:\n  - name: product_abstract/storage\n    from: { aliases: none, mapping_key: none }\n",
                "preset: spryker\nresources:\n  - name: product_abstract/storage\n",
            ),
            Self::NoPublisher => shown(
                "Nobody is known who builds broken rows of this resource again, so they stay dead letters. Usual for a \
                 module of the shop's own whose events were never wired up, and good to know before it is needed.",
                "preset: spryker\nresources:\n  - name: loyalty_card\n    \
                 from: { table: spy_loyalty_card_storage, cursor: [id_loyalty_card_storage], key: key, value: data }\n",
                "preset: spryker\nresources:\n  - name: loyalty_card\n    \
                 from: { table: spy_loyalty_card_storage, cursor: [id_loyalty_card_storage], key: key, value: data }\n    \
                 fallback: { to: none }\n",
            ),
            Self::NoEntity => shown(
                "The resource has a fallback, and no `from.entity`: it is not known to which entity a broken row belongs, \
                 so single rows cannot go to the publisher. The whole resource still can.",
                "resources:\n  - name: url\n    \
                 from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n    \
                 fallback:\n      ids: { table: spy_url, column: id_url }\n      \
                 by: { sql: { url: \"sqlite:shop.db\", statement: \"UPDATE spy_url SET is_touched = 1 WHERE id_url IN ({ids})\" } }\n",
                "resources:\n  - name: url\n    \
                 from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data, entity: fk_url }\n    \
                 fallback:\n      ids: { table: spy_url, column: id_url }\n      \
                 by: { sql: { url: \"sqlite:shop.db\", statement: \"UPDATE spy_url SET is_touched = 1 WHERE id_url IN ({ids})\" } }\n",
            ),
            Self::SourceUnreachable => told(
                "Nobody answers at `source.url`, or not in time: the server is down, host or port are wrong, \
                 or something between here and there lets nothing through. Try the same URL with the \
                 database's own client, from this machine.",
            ),
            Self::SourceCredentials => told(
                "The database answers and refuses the login, or a right. A user with `SELECT` on the whole \
                 database is enough. User and password stand in `source.url`; special characters in them are \
                 written as `%40` for `@` and so on.",
            ),
            Self::SourceRefused => told(
                "The database answers, and cannot be read as the plan wants it. What it says is shown.",
            ),
            Self::MissingTable => shown(
                "The source has no table of this name. Names count to the letter, upper and lower case \
                 included; on PostgreSQL a table outside of the `search_path` is written with its schema.",
                "resources:\n  - name: url\n    from: { table: spy_url_storag, cursor: [id_url_storage], key: key, value: data }\n",
                "resources:\n  - name: url\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n",
            ),
            Self::MissingColumn => shown(
                "The table is there, and has no column of this name. The nearest of those it has are shown.",
                "resources:\n  - name: url\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: kee, value: data }\n",
                "resources:\n  - name: url\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n",
            ),
            Self::UnfitCursor => shown(
                "Rows are read along the cursor, page by page, and found again by it after a death. So it has \
                 to be all columns of one PRIMARY or UNIQUE index, none of which may be NULL: else rows would \
                 be skipped or read for ever. The indexes that would do are shown.",
                "resources:\n  - name: url\n    from: { table: spy_url_storage, cursor: [fk_url], key: key, value: data }\n",
                "resources:\n  - name: url\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n",
            ),
            Self::BadCondition => shown(
                "`where:` is your own SQL, put in brackets into each query. The source does not understand \
                 it; what it says is shown. It is tried alone, too, so that it cannot take a query apart.",
                "resources:\n  - name: url\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data, where: \"is_active =\" }\n",
                "resources:\n  - name: url\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data, where: \"is_active = 1\" }\n",
            ),
            Self::SlowCatchUp => told(
                "`catch_up.column` says by which column a row tells when it changed, and here it helps little: the table has \
                 no such column, or no index begins with it. Then every row is compared, or looked at, once more before a run \
                 is done. That is right and slow.",
            ),
            Self::WritableUser => told(
                "A restore reads the source and never writes to it; its sessions are read-only. A user who \
                 may also write is more than it needs: a mistake elsewhere, or a stolen password, could \
                 change the shop's data. Give it a user of its own: `GRANT SELECT ON shop.* TO reader` on \
                 MariaDB, `GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader` on PostgreSQL.",
            ),
            Self::UncoveredTable => shown(
                "The table ends in `_storage` or `_search`, or has the columns `key` and `data`, and no \
                 resource names it. A module whose table is in no plan is missing in the shop, and no run \
                 would tell. Give it a resource, or say that nobody wants it.",
                "resources:\n  - name: url\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n",
                "ignore_tables: [spy_old_storage, \"test_*\"]\nresources:\n  - name: url\n    from: { table: spy_url_storage, cursor: [id_url_storage], key: key, value: data }\n",
            ),
            Self::CoverageUnknown => told(
                "The source does not tell which tables it has, so nobody knows whether the plan names them \
                 all. The tables that it names can be read all the same.",
            ),
            Self::IgnoresNothing => shown(
                "`ignore_tables` names a table, or a pattern, and no read model of the source is called so: \
                 it was mistyped, or the table is gone.",
                "ignore_tables: [spy_odl_storage]\n",
                "ignore_tables: [spy_old_storage]\n",
            ),
            Self::OtherStore => shown(
                "Rows of a table name a store that is not among the plan's `stores`. Nobody says which index they go to, so \
                 each of them becomes a dead letter, and its documents are missing in that store. Add the store, or leave its \
                 rows out on purpose with `where:`. A part of each table is looked at, so there may be more stores than are \
                 named.",
                "stores: [DE]\n\
                 targets: { search: { elasticsearch: { url: \"http://127.0.0.1:9200\", index: \"shop_{store}\" } } }\n",
                "stores: [DE, AT]\n\
                 targets: { search: { elasticsearch: { url: \"http://127.0.0.1:9200\", index: \"shop_{store}\" } } }\n",
            ),
            Self::PublisherIds => told(
                "The publisher of a resource takes ids, and `fallback.ids` says where they are: a table of \
                 the source and its column, integers with a unique index. They cannot be read there. Where \
                 there is no such table, `fallback: { to: none }` says that nobody can build the rows again.",
            ),
            Self::PublisherProgram => shown(
                "The first word of `console.command` is no program that this machine can start. It is looked \
                 for in the folders of `PATH`, or where it has a `/` in it, from the working folder. What it \
                 starts elsewhere, as `ssh` does, is not asked.",
                "console: { command: [dokcer, compose, exec, -T, cli, vendor/bin/console] }\n",
                "console: { command: [docker, compose, exec, -T, cli, vendor/bin/console] }\n",
            ),
            Self::TargetUnreachable => told(
                "Nobody answers at the target's URL, or not in time, or it is still loading. Try the same URL \
                 from this machine with `redis-cli -u` or `curl`.",
            ),
            Self::TargetCredentials => told(
                "The target answers and refuses user, password or a right. A user of Redis needs to read and \
                 write the keys with the prefix and `rekindle:*`; one of a search cluster to write to the \
                 indexes and to the index `rekindle`.",
            ),
            Self::TargetRefused => told(
                "The target answers, and cannot be written to as the plan wants it. What it says is shown.",
            ),
            Self::Eviction => shown(
                "This Redis drops keys when its memory is full (`maxmemory-policy`). A restore may fill it, \
                 and then rows vanish in silence, while the markers that prove them stay. Set `noeviction` \
                 there; a cache that may lose keys says so in the plan.",
                "targets: { storage: { redis: { url: \"redis://cache.test:6379/0\" } } }\n",
                "targets: { storage: { redis: { url: \"redis://cache.test:6379/0\", allow_eviction: true } } }\n",
            ),
            Self::ReplicaTarget => told(
                "This Redis copies another one and takes no writes of its own. Name its master, which is \
                 shown.",
            ),
            Self::NoDatabase => shown(
                "The number at the end of the URL is beyond what the server has (`databases`, 16 by default; \
                 hosted ones and clusters often have one).",
                "targets: { storage: { redis: { url: \"redis://cache.test:6379/99\" } } }\n",
                "targets: { storage: { redis: { url: \"redis://cache.test:6379/0\" } } }\n",
            ),
            Self::OtherDatabase => shown(
                "The database of the plan is empty, and another one of the same server holds keys with the \
                 plan's prefix: the shop probably reads that one. A restore into the wrong database ends well \
                 and changes nothing for anybody.",
                "targets: { storage: { redis: { url: \"redis://cache.test:6379/0\", prefix: \"kv:\" } } }\n",
                "targets: { storage: { redis: { url: \"redis://cache.test:6379/1\", prefix: \"kv:\" } } }\n",
            ),
            Self::NoRoom => told(
                "The rows need more memory than the Redis has left below its `maxmemory`, by an estimate of a \
                 sample. Keys that are there already are written over, so a second restore needs less. When \
                 it is full, a run waits, and goes on once there is room.",
            ),
            Self::MissingIndex => told(
                "Documents go to an index that is there. A restore creates none, because its mapping would be \
                 guessed, and a guessed mapping makes searches wrong in ways that nobody notices for weeks. \
                 Create it the way the shop does; in a Spryker shop `vendor/bin/console search:setup:sources` \
                 does. Where the shop's indexes begin with a prefix, the target has to know it: Spryker's stands in \
                 `SPRYKER_SEARCH_INDEX_PREFIX`, and a variable that is not set leaves it out.",
            ),
            Self::DynamicIndex => told(
                "The index makes up the type of each field that its mapping does not name, by the first \
                 document that has it: a number that comes as a text first is a text for ever. Spryker's own \
                 indexes are strict. Probably the index was created by writing to it; create it anew with its \
                 mapping.",
            ),
            Self::BlockedIndex => told(
                "A setting of the index forbids writes. `read_only_allow_delete` is set by the server itself \
                 when its disk is almost full, and taken back when there is room (old servers leave it); the \
                 others were set by a person. `PUT INDEX/_settings` with `null` for the setting lifts it.",
            ),
            Self::MissingQueue => shown(
                "The broker has no queue of that name in the vhost, or no exchange of that name, through which messages get \
                 into it. Messages that nothing routes to a queue are gone, so nothing is sent. `vendor/bin/console \
                 queue:setup` of the shop makes all of its queues. A warning where the plan's own run sends nothing there: \
                 the shop's publishers and `consume` need it all the same.",
                "broker: { url: \"amqp://mq.test/shop\" }\n",
                "broker: { url: \"amqp://mq.test/shop\", declare: true }\n",
            ),
            Self::OtherQueue => shown(
                "With `declare: true` a run makes queues as the shop's `queue:setup` does: durable, without further \
                 arguments. One of that name is there already with others, such as a length limit or as a quorum queue; the \
                 message names both. RabbitMQ changes no queue that is there, and refuses to have it made again.",
                "broker: { url: \"amqp://mq.test/shop\", declare: true }\n",
                "broker: { url: \"amqp://mq.test/shop\" }\n",
            ),
            Self::QueuesUnknown => told(
                "The broker of the plan, or its management plugin, does not answer or refuses the user. This plan's run needs \
                 neither: rows are written directly, and what consumers hold is only shown. What the shop needs of its \
                 queues could not be checked.",
            ),
            Self::PageStays => shown(
                "A step puts the maintenance page up, and no step after it takes it away: the run ends as done, and the shop \
                 stays closed until somebody opens it by hand.",
                "prepare: [{ maintenance: { on: \"touch m.flag\", check: \"test -e m.flag\", off: \"rm -f m.flag\" } }]\n",
                "prepare: [{ maintenance: { on: \"touch m.flag\", check: \"test -e m.flag\", off: \"rm -f m.flag\" } }]\n\
                 finish: [{ maintenance_off: {} }]\n",
            ),
        }
    }
}
