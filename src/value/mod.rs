//! What is done to a value on its way from the column to the target.
//!
//! ```text
//! column -> (php: as PHP writes it) -> (gzip: as PHP packs it) -> chunk
//! columns with more keys -> more_keys -> a pair for each, in the same forms -> chunk
//! ```
//!
//! Done while rows are read, so that a value that cannot pass becomes a dead letter where all others do.

mod broken;
pub mod gzip;
mod more_keys;
pub mod php;
pub mod search;

pub use broken::{Broken, Column};
pub use more_keys::{BrokenKeys, MoreKeys, Pair};

use crate::plan::{Compression, ValueForm};

/// Makes the bytes that a target gets. Keeps its scratch memory from value to value.
#[derive(Debug)]
pub struct Encoder {
    json: Option<php::Json>,
    gzip: Option<gzip::Packer>,
}

impl Encoder {
    /// Returns an encoder for a target's `value` and `compress`.
    #[must_use]
    pub fn new(form: ValueForm, compression: Compression) -> Self {
        Self {
            json: match form {
                ValueForm::Raw => None,
                ValueForm::Php => Some(php::Json::new(php::Form::Storage)),
                ValueForm::Message => Some(php::Json::new(php::Form::Message)),
                ValueForm::Document => Some(search::documents()),
            },
            gzip: match compression {
                Compression::None => None,
                Compression::Gzip => Some(gzip::Packer::default()),
            },
        }
    }

    /// Returns what the target gets for `value`: `value` itself where nothing has to be done.
    ///
    /// # Errors
    ///
    /// [`Broken`] where the plan asks for PHP's form of what PHP could not read.
    pub fn encode<'a>(&'a mut self, value: &'a [u8]) -> Result<&'a [u8], Broken> {
        let value = match &mut self.json {
            Some(json) => json.encode(value)?,
            None => value,
        };
        Ok(match &mut self.gzip {
            Some(gzip) => gzip.pack(value),
            None => value,
        })
    }

    /// Gives back scratch memory that only a long value needed.
    pub fn trim(&mut self) {
        if let Some(json) = &mut self.json {
            json.trim();
        }
        if let Some(gzip) = &mut self.gzip {
            gzip.trim();
        }
    }
}
