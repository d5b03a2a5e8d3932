//! Small files that settings name: certificates, keys, profiles.
#![allow(clippy::disallowed_methods, reason = "files that the bucket needs are this room's")]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The most bytes of such a file.
const BYTES_MAX: u64 = 1 << 20;

/// The text of the file at `path`.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > BYTES_MAX {
        let told = format!("it has more than {BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, told));
    }
    Ok(text)
}
