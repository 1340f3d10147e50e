//! How many rows the next page asks for.

use super::RowSink;

/// Chunks that a page should fill at most. One would cost a query per chunk; with many a page of long values stays
/// open on the server while its chunks wait for the target, until a time-out there cuts it.
const CHUNKS_PER_PAGE: u32 = 4;

/// Rows that a page has at least, for each range that its query opens: each may meet a row at either end that is not
/// sent, and pages of fewer rows would have the server read more than twice the rows they bring.
const ROWS_PER_RANGE: u32 = 4;

/// Bends the sink's wish to what the last page brought: where chunks were full of bytes long before the page was
/// full of rows, the next page asks for about [`CHUNKS_PER_PAGE`] chunks of rows, and grows again by doubling.
#[derive(Debug)]
pub(super) struct PageSize {
    least: u32,
    most: u32,
    asked: u32,
    rows: u32,
    full_chunks: u32,
}

impl PageSize {
    /// Returns the size of a scan's pages whose queries open `ranges` ranges of an index each; one where a single
    /// comparison of all key columns finds a page.
    pub(super) fn new(ranges: usize) -> Self {
        Self {
            least: u32::try_from(ranges)
                .unwrap_or(u32::MAX)
                .saturating_mul(ROWS_PER_RANGE),
            most: u32::MAX,
            asked: 0,
            rows: 0,
            full_chunks: 0,
        }
    }

    /// Returns the row limit of the page that begins now.
    pub(super) fn begin(&mut self, sink: &dyn RowSink) -> u32 {
        self.asked = if sink.reads_alone() {
            1
        } else {
            sink.page_rows().min(self.most).max(self.least)
        };
        self.rows = 0;
        self.full_chunks = 0;
        self.asked
    }

    /// Notes one row, and whether it filled a chunk.
    pub(super) const fn row(&mut self, full: bool) {
        self.rows += 1;
        self.full_chunks += full as u32;
    }

    /// Ends the page; returns `true` when it was the last one of its range.
    pub(super) const fn end(&mut self) -> bool {
        if self.full_chunks > CHUNKS_PER_PAGE {
            self.most = self.rows / self.full_chunks * CHUNKS_PER_PAGE;
        } else if self.full_chunks * 2 <= CHUNKS_PER_PAGE {
            self.most = self.asked.saturating_mul(2);
        }
        self.rows < self.asked
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::{chunk::SourceRow, source::Stopped};

    struct Wish(u32, bool);

    #[async_trait]
    impl RowSink for Wish {
        fn page_rows(&self) -> u32 {
            self.0
        }
        fn reads_alone(&self) -> bool {
            self.1
        }
        fn row_bytes(&self) -> u64 {
            0
        }
        fn push(&mut self, _: SourceRow<'_>) -> bool {
            false
        }
        async fn flush(&mut self) -> Result<(), Stopped> {
            Ok(())
        }
    }

    #[test]
    fn long_rows_make_short_pages_and_short_rows_long_ones_again() {
        let mut size = PageSize::new(1);
        let wish = Wish(1_000, false);
        let mut asked = Vec::new();
        for rows_per_chunk in [1_000, 10, 10, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000] {
            let limit = size.begin(&wish);
            asked.push(limit);
            for row in 1..=limit {
                size.row(row % rows_per_chunk == 0);
            }
            assert!(!size.end());
        }
        assert_eq!(asked, [1_000, 1_000, 40, 40, 80, 160, 320, 640, 1_000]);
    }

    #[test]
    fn a_short_page_is_the_last() {
        let mut size = PageSize::new(2);
        assert_eq!(size.begin(&Wish(9, false)), 9);
        size.row(false);
        assert!(size.end());
        assert_eq!(
            size.begin(&Wish(0, false)),
            8,
            "four rows for each of two ranges"
        );
        assert_eq!(
            size.begin(&Wish(9, true)),
            1,
            "long rows are read one by one"
        );
    }
}
