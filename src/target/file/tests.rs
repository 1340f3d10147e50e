use std::os::unix::fs::symlink;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    chunk::Chunk,
    cursor::{Cursor, KeyValue},
    ids::PartitionId,
};

struct Folder {
    dir: TempDir,
    target: FileTarget,
    run: RunId,
}

impl Folder {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        Self {
            target: target(&dir.path().join("out")),
            dir,
            run: RunId::from_text("7F3K2M"),
        }
    }

    async fn writer(&self, length: Option<u64>) -> Result<Box<dyn ChunkWriter>, EdgeError> {
        self.target
            .writer(&self.run, &partition(), ChunkSeq(0), length)
            .await
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("out/shop%2Furl.0007.resp")
    }

    async fn evidence(&self, length: u64) -> Evidence {
        let recorded = Recorded {
            partition: partition(),
            chunk: ChunkSeq(1),
            length: Some(length),
            incarnation: None,
        };
        self.target.evidence(&self.run, &[recorded]).await.unwrap()[0]
    }
}

fn target(folder: &Path) -> FileTarget {
    FileTarget::new(&FileConfig {
        format: crate::plan::FileFormat::Resp,
        path: folder.to_path_buf(),
    })
}

fn partition() -> PartitionKey {
    PartitionKey {
        resource: "shop/url".into(),
        id: PartitionId(31),
        ordinal: 7,
        extent: Extent::Whole,
    }
}

fn owner(state: &str) -> LeaseOwner {
    LeaseOwner {
        state: state.into(),
        state_path: format!("state/{state}.sqlite"),
        host: "batch-2".into(),
        pid: 4121,
        run: RunId::from_text("7F3K2M"),
    }
}

fn chunk<K: AsRef<[u8]>, V: AsRef<[u8]>>(rows: &[(K, V)]) -> Chunk {
    let mut chunk = Chunk::default();
    for (i, (key, value)) in rows.iter().enumerate() {
        let cursor = Cursor::single(KeyValue::Uint(i as u64));
        chunk.push(&cursor.0, key.as_ref(), value.as_ref(), &[]);
    }
    chunk
}

type Pair = (Vec<u8>, Vec<u8>);

/// Reads `SET` commands the way a server does, sharing no code with the writer.
fn parse(mut bytes: &[u8]) -> Option<Vec<Pair>> {
    fn number(bytes: &mut &[u8], sign: u8) -> Option<usize> {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let digits = bytes[..end].strip_prefix(&[sign])?;
        *bytes = &bytes[end + 2..];
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
    fn word(bytes: &mut &[u8]) -> Option<Vec<u8>> {
        let length = number(bytes, b'$')?;
        let word = bytes.get(..length)?.to_vec();
        *bytes = bytes.get(length..)?.strip_prefix(b"\r\n")?;
        Some(word)
    }
    let mut pairs = Vec::new();
    while !bytes.is_empty() {
        if number(&mut bytes, b'*')? != 3 || word(&mut bytes)? != b"SET" {
            return None;
        }
        pairs.push((word(&mut bytes)?, word(&mut bytes)?));
    }
    Some(pairs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_key_and_value_come_back(
        rows in prop::collection::vec(
            (
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..40),
                    Just(b"\r\n*3\r\n$3\r\nDEL\r\n".to_vec()),
                    Just(b"kv\0{x}".to_vec()),
                ],
                prop::collection::vec(any::<u8>(), 0..200),
            ),
            0..20,
        ),
        cut in 0usize..20,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let folder = Folder::new();
        let cut = cut.min(rows.len());
        let length = runtime.block_on(async {
            let mut writer = folder.writer(None).await.unwrap();
            writer.write(ChunkSeq(1), &chunk(&rows[..cut])).await.unwrap();
            writer.write(ChunkSeq(2), &chunk(&rows[cut..])).await.unwrap().length
        });
        let bytes = fs::read(folder.file()).unwrap();
        prop_assert_eq!(length, Some(bytes.len() as u64));
        prop_assert_eq!(parse(&bytes), Some(rows));
    }
}

#[tokio::test]
async fn the_file_looks_like_this() {
    let folder = Folder::new();
    let mut writer = folder.writer(None).await.unwrap();
    writer
        .write(ChunkSeq(1), &chunk(&[("url:12", "{}")]))
        .await
        .unwrap();
    assert_eq!(
        fs::read_to_string(folder.file()).unwrap(),
        "*3\r\n$3\r\nSET\r\n$6\r\nurl:12\r\n$2\r\n{}\r\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_larger_than_the_buffer_arrive_whole() {
    let folder = Folder::new();
    let mut writer = folder.writer(None).await.unwrap();
    let rows = [("a", vec![b'x'; 3 * 1024 * 1024]), ("b", vec![b'y'; 5])];
    writer.write(ChunkSeq(1), &chunk(&rows)).await.unwrap();
    let expected = rows.map(|(key, value)| (key.as_bytes().to_vec(), value));
    assert_eq!(
        parse(&fs::read(folder.file()).unwrap()),
        Some(expected.to_vec())
    );
}

#[tokio::test]
async fn a_resume_cuts_back_to_the_journaled_length() {
    let folder = Folder::new();
    let mut writer = folder.writer(None).await.unwrap();
    let first = writer
        .write(ChunkSeq(1), &chunk(&[("a", "1")]))
        .await
        .unwrap();
    writer
        .write(ChunkSeq(2), &chunk(&[("b", "2")]))
        .await
        .unwrap();
    drop(writer);
    let mut writer = folder.writer(first.length).await.unwrap();
    writer
        .write(ChunkSeq(2), &chunk(&[("c", "3")]))
        .await
        .unwrap();
    let pairs = parse(&fs::read(folder.file()).unwrap()).unwrap();
    let keys: Vec<_> = pairs.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [b"a", b"c"]);
}

#[tokio::test]
async fn a_fresh_partition_starts_with_an_empty_file() {
    let folder = Folder::new();
    let mut writer = folder.writer(None).await.unwrap();
    writer
        .write(ChunkSeq(1), &chunk(&[("old", "1")]))
        .await
        .unwrap();
    folder.writer(None).await.unwrap();
    assert_eq!(fs::read(folder.file()).unwrap(), b"");
}

#[tokio::test]
async fn what_a_failed_write_left_is_cut_off_by_the_next() {
    let folder = Folder::new();
    let mut writer = folder.writer(None).await.unwrap();
    writer
        .write(ChunkSeq(1), &chunk(&[("a", "1")]))
        .await
        .unwrap();
    let good = fs::read(folder.file()).unwrap();
    fs::write(folder.file(), [&good[..], b"*3\r\n$3\r\nSE"].concat()).unwrap();
    writer
        .write(ChunkSeq(2), &chunk(&[("b", "2")]))
        .await
        .unwrap();
    assert_eq!(parse(&fs::read(folder.file()).unwrap()).unwrap().len(), 2);
}

#[tokio::test]
async fn a_shorter_or_missing_file_is_lost_evidence() {
    let folder = Folder::new();
    let refused = folder.writer(Some(10)).await.err().unwrap();
    assert_eq!(refused.kind, ErrorKind::EvidenceLost);
    assert!(!folder.file().exists());
    assert_eq!(folder.evidence(10).await, Evidence::UpToLength(0));

    let mut writer = folder.writer(None).await.unwrap();
    let length = writer
        .write(ChunkSeq(1), &chunk(&[("a", "1")]))
        .await
        .unwrap()
        .length
        .unwrap();
    assert_eq!(folder.evidence(length).await, Evidence::Stands);
    assert_eq!(folder.evidence(length - 1).await, Evidence::Stands);
    assert_eq!(
        folder.evidence(length + 1).await,
        Evidence::UpToLength(length)
    );
    let refused = folder.writer(Some(length + 1)).await.err().unwrap();
    assert_eq!(refused.kind, ErrorKind::EvidenceLost);
    assert_eq!(fs::metadata(folder.file()).unwrap().len(), length);

    fs::remove_file(folder.file()).unwrap();
    let refused = writer
        .write(ChunkSeq(2), &chunk(&[("b", "2")]))
        .await
        .unwrap_err();
    assert_eq!(refused.kind, ErrorKind::EvidenceLost);
}

#[tokio::test]
async fn a_link_in_the_files_place_is_not_followed() {
    let folder = Folder::new();
    let elsewhere = folder.dir.path().join("precious");
    fs::write(&elsewhere, "keep").unwrap();
    fs::create_dir(folder.dir.path().join("out")).unwrap();
    symlink(&elsewhere, folder.file()).unwrap();
    assert!(folder.writer(None).await.is_err());
    assert_eq!(fs::read(&elsewhere).unwrap(), b"keep");
}

#[tokio::test]
async fn asking_for_identity_facts_and_owner_creates_nothing() {
    let folder = Folder::new();
    let before = folder.target.identity().await.unwrap();
    let facts = folder.target.facts().await.unwrap();
    assert_eq!(facts[0].1, "will be created");
    assert_eq!(folder.target.lease_owner().await.unwrap(), None);
    assert_eq!(folder.evidence(3).await, Evidence::UpToLength(0));
    assert_eq!(fs::read_dir(folder.dir.path()).unwrap().count(), 0);

    folder.writer(None).await.unwrap();
    assert_eq!(folder.target.identity().await.unwrap(), before);
    let dotted = target(&folder.dir.path().join("out/../out"));
    assert_eq!(dotted.identity().await.unwrap(), before);
}

#[tokio::test]
async fn a_file_in_the_folders_place_is_refused() {
    let folder = Folder::new();
    fs::write(folder.dir.path().join("out"), "").unwrap();
    let error = folder.target.identity().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
}

#[tokio::test]
async fn two_states_never_both_hold_a_folder() {
    let folder = Folder::new();
    let other = target(&folder.dir.path().join("out"));
    let (ours, theirs) = (owner("a"), owner("b"));
    assert_eq!(folder.target.take_lease(&ours).await.unwrap(), Lease::Held);
    assert_eq!(folder.target.renew_lease(&ours).await.unwrap(), Lease::Held);
    assert_eq!(
        other.take_lease(&theirs).await.unwrap(),
        Lease::TakenBy(ours.clone())
    );
    assert_eq!(other.lease_owner().await.unwrap(), Some(ours.clone()));
    // Not theirs to give back.
    other.release_lease(&theirs).await.unwrap();
    assert_eq!(other.lease_owner().await.unwrap(), Some(ours.clone()));

    folder.target.release_lease(&ours).await.unwrap();
    assert_eq!(other.lease_owner().await.unwrap(), None);
    assert_eq!(other.take_lease(&theirs).await.unwrap(), Lease::Held);
    assert_eq!(
        folder.target.renew_lease(&ours).await.unwrap(),
        Lease::TakenBy(theirs)
    );
}

#[tokio::test]
async fn a_lock_ends_with_its_holder_and_comes_back_after_the_folder_was_removed() {
    let folder = Folder::new();
    let other = target(&folder.dir.path().join("out"));
    assert_eq!(
        folder.target.take_lease(&owner("a")).await.unwrap(),
        Lease::Held
    );
    fs::remove_dir_all(folder.dir.path().join("out")).unwrap();
    assert_eq!(
        folder.target.renew_lease(&owner("a")).await.unwrap(),
        Lease::Held
    );
    assert!(matches!(
        other.take_lease(&owner("b")).await.unwrap(),
        Lease::TakenBy(_)
    ));
    drop(folder.target);
    assert_eq!(other.take_lease(&owner("b")).await.unwrap(), Lease::Held);
}

#[tokio::test]
async fn clearing_removes_every_file_of_the_resource_and_no_other() {
    let folder = Folder::new();
    folder.writer(None).await.unwrap();
    let out = folder.dir.path().join("out");
    let name = folder
        .file()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .replace(".0007.", ".0017.");
    fs::write(
        out.join(&name),
        "left by an earlier run with more partitions",
    )
    .unwrap();
    let neighbours = [
        "other.0001.resp".to_owned(),
        format!("x{name}"),
        name.replace(".0017.", ".more.0001."),
        "notes".into(),
    ];
    for neighbour in &neighbours {
        fs::write(out.join(neighbour), "").unwrap();
    }
    let resource = partition().resource;
    for _ in 0..2 {
        folder
            .target
            .clear(&resource, &Extent::Whole)
            .await
            .unwrap();
        assert!(!folder.file().exists());
        assert!(!out.join(&name).exists());
    }
    assert!(
        neighbours
            .iter()
            .all(|neighbour| out.join(neighbour).exists())
    );
}
