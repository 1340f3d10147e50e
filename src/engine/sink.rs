//! Cuts a scan into chunks and hands them to the writer, within the memory budget.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use super::{
    budget::{Budget, Reservation},
    pairs::Pairs,
};
use crate::{
    chunk::{Chunk, SourceRow, Value},
    cursor::{Cursor, KeyValue},
    error::ErrorKind,
    machine::{ChunkState, DeadLetter},
    source::{RowSink, Stopped},
};

/// Rows below the chunk limit that must come in a row before a partition with long rows reads whole pages again.
const SMALL_ROWS_IN_A_ROW: u32 = 16;

/// What a row costs beside its bytes: its slot and the first column of its cursor, or its place among the dead letters.
const ROW_BYTES: u64 = 64;

/// How often the columns are looked at while they are read. Shorter costs a question to the catalogue for few pages; longer
/// copies more rows of a table that was changed.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Longest part of a key that a dead letter keeps, in bytes.
const DEAD_LETTER_KEY_BYTES: usize = 512;

/// A chunk on its way to the writer.
#[derive(Debug)]
pub struct FilledChunk {
    /// The rows that go to the target.
    pub chunk: Chunk,
    /// The last row's cursor, dead letters included.
    pub until: Cursor,
    /// Rows read, dead letters included.
    pub rows: u64,
    /// Rows that do not go to the target.
    pub dead_letters: Vec<DeadLetter>,
    /// Where the chunk stands.
    pub state: ChunkState,
    /// Its part of the memory budget, given back when the chunk is dropped.
    pub reservation: Reservation,
}

/// Bounds of the chunks that a sink cuts.
#[derive(Debug, Clone)]
pub struct ChunkBounds {
    /// Rows of the next page; the writer changes it as chunks are stored.
    pub page_rows: Arc<AtomicU32>,
    /// A chunk ends with the row that reaches this many bytes. Longer rows go alone.
    pub bytes: u64,
    /// Rows longer than this are dead letters.
    pub longest_row: u64,
}

/// Why a sink took no more rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkStop {
    /// It was told to stop, or the writer is gone.
    Told,
    /// It has handed on as many chunks as it was allowed to.
    Quota,
    /// The next row is this long and needs [`ChunkSink::make_room`].
    LongRow(u64),
    /// A page ended, and somebody else could walk a part of the rest.
    Share,
    /// A page ended, and it is time to look whether the columns are what they were.
    Look,
}

/// The engine's [`RowSink`].
#[derive(Debug)]
pub struct ChunkSink {
    bounds: ChunkBounds,
    pairs: Pairs,
    budget: Budget,
    out: mpsc::Sender<FilledChunk>,
    stop: watch::Receiver<bool>,
    quota: Option<u32>,
    chunk: Chunk,
    until: Option<Cursor>,
    rows: u64,
    dead_letters: Vec<DeadLetter>,
    /// Bytes that rows and dead letters cost beside keys and values of the chunk.
    beside: u64,
    reservation: Option<Reservation>,
    flushed: Option<Cursor>,
    why: SinkStop,
    /// While rows are long: the longest row read so far, and how many short ones came since.
    long: Option<(u64, u32)>,
    /// Becomes true when somebody else could walk a part of the rest.
    share: Arc<AtomicBool>,
    looked: Instant,
}

impl ChunkSink {
    /// Returns a sink that hands chunks of what `pairs` makes of rows to `out` until `stop` says so, or until `quota` of them are out.
    #[must_use]
    pub fn new(
        bounds: ChunkBounds,
        pairs: Pairs,
        budget: Budget,
        out: mpsc::Sender<FilledChunk>,
        stop: watch::Receiver<bool>,
        quota: Option<u32>,
        share: Arc<AtomicBool>,
    ) -> Self {
        Self {
            share,
            looked: Instant::now(),
            bounds,
            pairs,
            budget,
            out,
            stop,
            quota,
            chunk: Chunk::default(),
            until: None,
            rows: 0,
            dead_letters: Vec::new(),
            beside: 0,
            reservation: None,
            flushed: None,
            why: SinkStop::Told,
            long: None,
        }
    }

    /// Returns the end of the last chunk handed on.
    #[must_use]
    pub const fn flushed(&self) -> Option<&Cursor> {
        self.flushed.as_ref()
    }

    /// Returns why the sink stopped the scan.
    #[must_use]
    pub const fn why(&self) -> SinkStop {
        self.why
    }

    /// Forgets rows that were taken but not handed on, and gets ready for another scan.
    pub async fn restart(&mut self) -> Result<(), Stopped> {
        self.chunk.clear();
        self.until = None;
        self.rows = 0;
        self.dead_letters.clear();
        self.beside = 0;
        self.why = SinkStop::Told;
        if self.reservation.is_none() {
            self.reserve().await?;
        }
        Ok(())
    }

    /// Gets ready to read a row of `bytes`, waiting until the rest in flight leaves room for it.
    pub async fn make_room(&mut self, bytes: u64) -> Result<(), Stopped> {
        self.reservation = None;
        self.long = Some((bytes.max(self.long.map_or(0, |(longest, _)| longest)), 0));
        self.restart().await
    }

    async fn reserve(&mut self) -> Result<(), Stopped> {
        let bytes = self.long.map_or(self.bounds.bytes, |(longest, _)| longest);
        tokio::select! {
            biased;
            () = told(&mut self.stop) => Err(Stopped),
            reservation = self.budget.reserve(bytes) => {
                self.reservation = Some(reservation);
                if self.chunk.room() == 0 {
                    self.chunk = self.budget.chunk();
                }
                Ok(())
            }
        }
    }

    fn dead_letter(
        &mut self,
        cursor: &[KeyValue],
        key: Option<&[u8]>,
        kind: ErrorKind,
        reason: String,
    ) {
        let key = key.map(shown_key);
        self.beside += (key.as_ref().map_or(0, String::len) + reason.len()) as u64;
        self.dead_letters.push(DeadLetter {
            cursor: Cursor(cursor.to_vec()),
            key,
            kind: kind.label().to_owned(),
            reason,
            entity: None,
        });
    }
}

/// Returns a key as a dead letter keeps it: as text, cut after [`DEAD_LETTER_KEY_BYTES`].
pub fn shown_key(key: &[u8]) -> String {
    String::from_utf8_lossy(&key[..key.len().min(DEAD_LETTER_KEY_BYTES)]).into_owned()
}

/// Waits until `stop` becomes true, or for ever when nobody can say so any more.
pub async fn told(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[async_trait]
impl RowSink for ChunkSink {
    fn page_rows(&self) -> u32 {
        if self.long.is_some() {
            1
        } else {
            self.bounds.page_rows.load(Ordering::Relaxed).max(1)
        }
    }

    fn reads_alone(&self) -> bool {
        self.long.is_some()
    }

    fn row_bytes(&self) -> u64 {
        self.long.map_or(self.bounds.bytes, |(longest, _)| longest)
    }

    fn push(&mut self, row: SourceRow<'_>) -> bool {
        let SourceRow {
            cursor,
            key,
            value,
            beside,
        } = row;
        match (key, value) {
            (_, Value::TooLarge(bytes))
                if bytes <= self.bounds.longest_row && bytes > self.row_bytes() =>
            {
                self.why = SinkStop::LongRow(bytes);
                return true;
            }
            (_, Value::TooLarge(bytes)) => {
                let most = self.bounds.longest_row;
                let reason = format!(
                    "the value is {bytes} bytes long, above the memory budget of {most} bytes"
                );
                self.dead_letter(cursor, key, ErrorKind::RowTooLarge, reason);
            }
            (None, _) => self.dead_letter(
                cursor,
                None,
                ErrorKind::RowBroken,
                "the key is NULL".to_owned(),
            ),
            (Some(key), Value::Null) => {
                self.dead_letter(
                    cursor,
                    Some(key),
                    ErrorKind::RowBroken,
                    "the value is NULL".to_owned(),
                );
            }
            (Some(key), Value::Bytes(value)) => {
                let limit = self.row_bytes();
                match self.pairs.of(key, value, beside) {
                    // Too long only now, so it comes again like any other long row.
                    Ok(made)
                        if made.byte_count() > value.len() && made.byte_count() as u64 > limit =>
                    {
                        let value = Value::TooLarge(made.byte_count() as u64);
                        return self.push(SourceRow { value, ..row });
                    }
                    Ok(made) => {
                        self.chunk.push(cursor, key, made.value, made.beside);
                        // At the same place, so that the row stays one: none of its pairs goes without the others.
                        for (key, value) in made.more {
                            self.chunk.push(cursor, key, value, made.beside);
                        }
                        self.beside += ROW_BYTES * made.more.len() as u64;
                        if let Some((_, small)) = &mut self.long {
                            *small = if made.byte_count() as u64 > self.bounds.bytes {
                                0
                            } else {
                                *small + 1
                            };
                        }
                    }
                    Err(reason) => {
                        self.dead_letter(cursor, Some(key), ErrorKind::RowBroken, reason);
                    }
                }
            }
        }
        self.rows += 1;
        let more = cursor.len().saturating_sub(1) * size_of::<KeyValue>();
        let texts: usize = cursor.iter().map(KeyValue::heap_bytes).sum();
        self.beside += ROW_BYTES + (more + texts) as u64;
        match &mut self.until {
            Some(until) => until.0.clone_from_slice(cursor),
            None => self.until = Some(Cursor(cursor.to_vec())),
        }
        self.rows >= u64::from(self.page_rows())
            || self.chunk.byte_count() as u64 + self.beside >= self.bounds.bytes
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        if let (Some(until), Some(mut reservation)) = (self.until.take(), self.reservation.take()) {
            reservation.shrink(self.chunk.byte_count() as u64 + std::mem::take(&mut self.beside));
            let filled = FilledChunk {
                chunk: std::mem::take(&mut self.chunk),
                until: until.clone(),
                rows: std::mem::take(&mut self.rows),
                dead_letters: std::mem::take(&mut self.dead_letters),
                state: ChunkState::Filling,
                reservation,
            };
            tokio::select! {
                biased;
                () = told(&mut self.stop) => return Err(Stopped),
                sent = self.out.send(filled) => sent.map_err(|_| Stopped)?,
            }
            self.flushed = Some(until);
            self.pairs.trim();
            if let Some(left) = &mut self.quota {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.why = SinkStop::Quota;
                    return Err(Stopped);
                }
            }
            if self
                .long
                .is_some_and(|(_, small)| small >= SMALL_ROWS_IN_A_ROW)
            {
                self.long = None;
            }
        }
        if matches!(self.why, SinkStop::LongRow(_)) {
            return Err(Stopped);
        }
        if self.reservation.is_none() {
            self.reserve().await?;
        }
        Ok(())
    }

    fn page_ended(&mut self) -> Result<(), Stopped> {
        if self.share.swap(false, Ordering::Relaxed) {
            self.why = SinkStop::Share;
            return Err(Stopped);
        }
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            self.why = SinkStop::Look;
            return Err(Stopped);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Compression, KeyColumn, MoreKeys, RowSource, ValueForm};

    fn from() -> RowSource {
        RowSource {
            table: "t".into(),
            cursor: vec!["id".into()],
            key: "key".into(),
            value: "data".into(),
            entity: None,
            store: None,
            more_keys: MoreKeys {
                aliases: Some(KeyColumn {
                    name: "alias_keys".into(),
                    optional: true,
                }),
                mapping: None,
            },
            condition: None,
            reads_ids: false,
        }
    }

    fn sink(
        bytes: u64,
        rows: u32,
    ) -> (ChunkSink, mpsc::Receiver<FilledChunk>, watch::Sender<bool>) {
        encoding_sink(bytes, rows, (ValueForm::Raw, Compression::None))
    }

    fn encoding_sink(
        bytes: u64,
        rows: u32,
        encoding: (ValueForm, Compression),
    ) -> (ChunkSink, mpsc::Receiver<FilledChunk>, watch::Sender<bool>) {
        let (out, inbox) = mpsc::channel(64);
        let (stop, stopped) = watch::channel(false);
        let bounds = ChunkBounds {
            page_rows: Arc::new(AtomicU32::new(rows)),
            bytes,
            longest_row: 64 * 1024,
        };
        (
            ChunkSink::new(
                bounds,
                Pairs::new(&from(), encoding),
                Budget::new(1024 * 1024),
                out,
                stopped,
                None,
                Arc::default(),
            ),
            inbox,
            stop,
        )
    }

    fn row<'a>(cursor: &'a [KeyValue], key: Option<&'a [u8]>, value: Value<'a>) -> SourceRow<'a> {
        SourceRow {
            cursor,
            key,
            value,
            beside: &[],
        }
    }

    fn at(id: u64) -> [KeyValue; 1] {
        [KeyValue::Uint(id)]
    }

    #[tokio::test]
    async fn a_chunk_ends_with_the_row_that_reaches_either_bound() {
        let (mut sink, mut inbox, _stop) = sink(300, 3);
        sink.restart().await.unwrap();
        assert!(!sink.push(row(&at(1), Some(b"a"), Value::Bytes(&[0; 100]))));
        assert!(sink.push(row(&at(2), Some(b"b"), Value::Bytes(&[0; 100]))));
        sink.flush().await.unwrap();
        assert!(!sink.push(row(&at(3), Some(b"a"), Value::Null)));
        assert!(!sink.push(row(&at(4), None, Value::Bytes(b"x"))));
        assert!(sink.push(row(&at(5), Some(b"b"), Value::Bytes(b"x"))));
        sink.flush().await.unwrap();
        let first = inbox.recv().await.unwrap();
        assert_eq!((first.rows, first.until), (2, Cursor(at(2).to_vec())));
        let second = inbox.recv().await.unwrap();
        assert_eq!(
            (
                second.rows,
                second.chunk.row_count(),
                second.dead_letters.len()
            ),
            (3, 1, 2)
        );
        assert_eq!(second.dead_letters[1].reason, "the key is NULL");
    }

    #[tokio::test]
    async fn a_long_row_is_asked_for_again_alone_and_one_over_the_budget_is_a_dead_letter() {
        let (mut sink, mut inbox, _stop) = sink(300, 1000);
        sink.restart().await.unwrap();
        sink.push(row(&at(1), Some(b"a"), Value::Bytes(b"x")));
        assert!(sink.push(row(&at(2), Some(b"b"), Value::TooLarge(5000))));
        assert_eq!(sink.flush().await, Err(Stopped));
        assert_eq!(sink.why(), SinkStop::LongRow(5000));
        assert_eq!(sink.flushed(), Some(&Cursor(at(1).to_vec())));
        sink.make_room(5000).await.unwrap();
        assert!(sink.reads_alone());
        assert_eq!((sink.page_rows(), sink.row_bytes()), (1, 5000));
        assert!(sink.push(row(&at(2), Some(b"b"), Value::Bytes(&[0; 5000]))));
        sink.flush().await.unwrap();
        assert!(sink.push(row(&at(3), Some(b"c"), Value::TooLarge(70_000))));
        sink.flush().await.unwrap();
        for id in 4..30 {
            sink.push(row(&at(id), Some(b"d"), Value::Bytes(b"x")));
            sink.flush().await.unwrap();
        }
        assert!(!sink.reads_alone());
        assert_eq!(sink.page_rows(), 1000);
        assert_eq!(inbox.recv().await.unwrap().rows, 1);
        assert_eq!(inbox.recv().await.unwrap().chunk.byte_count(), 5001);
        assert_eq!(
            inbox.recv().await.unwrap().dead_letters[0].kind,
            "row_too_large"
        );
    }

    #[tokio::test]
    async fn a_value_that_cannot_be_written_is_a_dead_letter_without_its_bytes() {
        let php = (ValueForm::Php, Compression::None);
        let (mut sink, mut inbox, _stop) = encoding_sink(200_000, 1000, php);
        sink.restart().await.unwrap();
        let cut = format!("{{\"a\":\"{}", "s".repeat(65_535 - 6));
        let values: [&[u8]; 4] = [br#"{"0":"a/"}"#, b"{secret", b"null", cut.as_bytes()];
        for (id, value) in (1..).zip(values) {
            sink.push(row(&at(id), Some(b"k"), Value::Bytes(value)));
        }
        sink.flush().await.unwrap();
        let filled = inbox.recv().await.unwrap();
        let values: Vec<_> = filled.chunk.rows().map(|row| row.value).collect();
        assert_eq!(values, [br#"["a\/"]"#]);
        let reasons: Vec<_> = filled
            .dead_letters
            .iter()
            .map(|letter| (letter.kind.as_str(), letter.reason.as_str()))
            .collect();
        assert_eq!(
            reasons,
            [
                (
                    "row_broken",
                    "the value is broken JSON: a syntax error at byte 1"
                ),
                (
                    "row_broken",
                    "the value is JSON, but neither an object nor a list"
                ),
                (
                    "row_broken",
                    "the value is cut at 65,535 bytes: the column is TEXT"
                ),
            ]
        );
    }

    #[tokio::test]
    async fn a_value_that_grows_beyond_its_chunk_comes_again_alone() {
        let php = (ValueForm::Php, Compression::None);
        let (mut sink, mut inbox, _stop) = encoding_sink(300, 1000, php);
        sink.restart().await.unwrap();
        sink.push(row(&at(1), Some(b"a"), Value::Bytes(b"[1]")));
        let value = format!("[\"{}\"]", "\u{e9}".repeat(100));
        let grown = 4 + 600;
        assert!(sink.push(row(&at(2), Some(b"b"), Value::Bytes(value.as_bytes()))));
        assert_eq!(sink.flush().await, Err(Stopped));
        assert_eq!(sink.why(), SinkStop::LongRow(grown));
        assert_eq!(inbox.recv().await.unwrap().rows, 1);
        sink.make_room(grown).await.unwrap();
        assert!(sink.push(row(&at(2), Some(b"b"), Value::Bytes(value.as_bytes()))));
        sink.flush().await.unwrap();
        assert_eq!(inbox.recv().await.unwrap().chunk.byte_count(), 605);
        let value = format!("[\"{}\"]", "\u{e9}".repeat(20_000));
        sink.make_room(70_000).await.unwrap();
        assert!(sink.push(row(&at(3), Some(b"c"), Value::Bytes(value.as_bytes()))));
        sink.flush().await.unwrap();
        assert_eq!(
            inbox.recv().await.unwrap().dead_letters[0].kind,
            "row_too_large"
        );
    }

    #[tokio::test]
    async fn a_row_with_more_keys_is_one_row_and_all_or_nothing() {
        let php = (ValueForm::Php, Compression::None);
        let (mut sink, mut inbox, _stop) = encoding_sink(2_000, 1000, php);
        sink.restart().await.unwrap();
        let aliases: [Option<&[u8]>; 4] = [
            Some(br#"{"a:1":{"id":1},"b:1":[]}"#),
            None,
            Some(b"{geheim"),
            Some(br#"{"a:4":{"id":4}}"#),
        ];
        for (id, alias) in (1..).zip(&aliases) {
            let value = Value::Bytes(if id == 4 { b"{broken" } else { b"{}" });
            let cursor = at(id);
            let row = SourceRow {
                beside: std::slice::from_ref(alias),
                ..row(&cursor, Some(b"k"), value)
            };
            assert!(!sink.push(row));
        }
        sink.flush().await.unwrap();
        let filled = inbox.recv().await.unwrap();
        assert_eq!(
            (filled.rows, filled.until.clone()),
            (4, Cursor(at(4).to_vec()))
        );
        let pairs: Vec<_> = filled
            .chunk
            .rows()
            .map(|row| (row.cursor.to_vec(), row.key, row.value))
            .collect();
        let pair = |id, key, value| (at(id).to_vec(), key, value);
        assert_eq!(
            pairs,
            [
                pair(1, &b"k"[..], &b"[]"[..]),
                pair(1, b"a:1", br#"{"id":1}"#),
                pair(1, b"b:1", b"[]"),
                pair(2, b"k", b"[]"),
            ]
        );
        let letters = filled.dead_letters.iter();
        let reasons: Vec<_> = letters.map(|letter| letter.reason.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "`alias_keys` cannot be read: the value is broken JSON: a syntax error at byte 1",
                "the value is broken JSON: a syntax error at byte 1"
            ]
        );
    }

    #[tokio::test]
    async fn a_row_whose_aliases_do_not_fit_into_a_chunk_comes_again_alone() {
        let php = (ValueForm::Php, Compression::None);
        let (mut sink, mut inbox, _stop) = encoding_sink(300, 1000, php);
        sink.restart().await.unwrap();
        let alias = format!("{{\"a\":[\"{}\"]}}", "x".repeat(400));
        let beside = [Some(alias.as_bytes())];
        let long = |cursor| SourceRow {
            beside: &beside,
            ..row(cursor, Some(b"k"), Value::Bytes(b"[1]"))
        };
        let place = at(1);
        assert!(sink.push(long(&place)));
        assert_eq!(sink.flush().await, Err(Stopped));
        let SinkStop::LongRow(bytes) = sink.why() else {
            panic!("{:?}", sink.why());
        };
        assert_eq!(bytes, 3 + 1 + 404);
        sink.make_room(bytes).await.unwrap();
        assert!(sink.push(long(&place)));
        sink.flush().await.unwrap();
        let filled = inbox.recv().await.unwrap();
        assert_eq!((filled.rows, filled.chunk.row_count()), (1, 2));
    }
}
