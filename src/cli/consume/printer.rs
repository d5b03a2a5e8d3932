//! Records on standard output.

use std::io::{self, Write as _};

use super::super::output::Failure;
use super::format::{Format, Forms};
use crate::client::Record;

/// So much is gathered before it is written.
const GATHERED_BYTES: usize = 64 * 1024;

/// Prints records and counts them.
pub(super) struct Printer {
    format: Format,
    forms: Forms,
    /// How many may still be printed.
    left: u64,
    count: u64,
    /// Whether nobody reads what is written.
    is_closed: bool,
}

impl Printer {
    /// Prints `most` records at most.
    pub(super) fn new(format: Format, forms: Forms, most: Option<u64>) -> Self {
        Self { format, forms, left: most.unwrap_or(u64::MAX), count: 0, is_closed: false }
    }

    /// How many records were written.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Whether more are wanted.
    pub(super) fn is_open(&self) -> bool {
        !self.is_closed && self.left > 0
    }

    /// Prints records; how many of them are written.
    pub(super) fn print(&mut self, records: &[&Record]) -> Result<usize, Failure> {
        let (mut written, mut gathered, mut bytes) = (0, 0, Vec::new());
        for record in records {
            if !self.is_open() {
                break;
            }
            self.left -= 1;
            self.format.write(record, self.forms, &mut bytes);
            gathered += 1;
            if bytes.len() >= GATHERED_BYTES {
                written += self.write(&mut bytes, std::mem::take(&mut gathered))?;
            }
        }
        Ok(written + self.write(&mut bytes, gathered)?)
    }

    /// Writes the bytes of `count` records; how many of them are written.
    fn write(&mut self, bytes: &mut Vec<u8>, count: usize) -> Result<usize, Failure> {
        if self.is_closed || count == 0 {
            return Ok(0);
        }
        let mut out = io::stdout().lock();
        let outcome = out.write_all(bytes).and_then(|()| out.flush());
        bytes.clear();
        match outcome {
            Ok(()) => {
                self.count += count as u64;
                Ok(count)
            }
            // Who reads has read enough (`| head`).
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(0)
            }
            Err(error) => Err(Failure::failed(format!("write to standard output: {error}"))),
        }
    }
}
