//! Files that are given to commands.
#![allow(clippy::disallowed_methods, reason = "the command line names the file")]

use std::path::Path;

use super::output::Failure;

/// A plan of more bytes than this is none.
const BYTES_MAX: u64 = 64 << 20;

/// The text of a file; one that cannot be read is wrong usage.
pub(super) fn read_file(path: &Path) -> Result<String, Failure> {
    let unreadable =
        |reason: String| Failure::Usage(format!("{}: {reason}; check the path", path.display()));
    let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if length > BYTES_MAX {
        return Err(unreadable(format!("{length} bytes are more than the {BYTES_MAX} of a plan")));
    }
    std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))
}
