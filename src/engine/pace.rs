//! How many rows a page of one partition asks for.

/// Chunks that must be stored one after the other before the page doubles again: after a death the next ones are
/// the most likely to meet the same row.
const STREAK: u32 = 4;

/// The page size of one partition: halved by every death, doubled again by success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    rows: u32,
    most: u32,
    streak: u32,
}

impl Pace {
    /// Returns a pace that begins at `rows` and never asks for more than `most`; both at least 1.
    #[must_use]
    pub fn new(rows: u32, most: u32) -> Self {
        let most = most.max(1);
        Self {
            rows: rows.clamp(1, most),
            most,
            streak: 0,
        }
    }

    /// Returns the rows the next page may ask for.
    #[must_use]
    pub const fn rows(self) -> u32 {
        self.rows
    }

    /// Takes note of a stored chunk.
    pub fn stored(&mut self) {
        self.streak += 1;
        if self.streak >= STREAK && self.rows < self.most {
            self.streak = 0;
            self.rows = self.rows.saturating_mul(2).min(self.most);
        }
    }
}

/// Returns the page size after a death: half, at least one row.
#[must_use]
pub const fn after_death(rows: u32) -> u32 {
    if rows > 1 { rows / 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_halve_down_to_one_row_and_success_brings_the_page_back() {
        let mut rows = 1000;
        for _ in 0..20 {
            rows = after_death(rows);
        }
        assert_eq!(rows, 1);
        let mut pace = Pace::new(rows, 1000);
        let mut chunks = 0;
        while pace.rows() < 1000 {
            pace.stored();
            chunks += 1;
        }
        assert_eq!(chunks, 40);
    }

    #[test]
    fn never_above_the_plan() {
        let mut pace = Pace::new(5000, 300);
        assert_eq!(pace.rows(), 300);
        for _ in 0..100 {
            pace.stored();
        }
        assert_eq!(pace.rows(), 300);
    }
}
