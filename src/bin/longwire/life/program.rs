//! Where the program of this process is found again by its upgrade.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{self, PathBuf};

/// By the path that it was started by, if that has one. The kernel follows links when it starts a
/// program and names what it has found, so that after a link such as `current` was set to a new
/// version, what it names would be the old one.
pub(super) fn path() -> io::Result<PathBuf> {
    let found = env::current_exe()?;
    let typed = env::args_os().next().and_then(|typed| typed_path(&typed));
    Ok(typed.filter(|typed| is_same(typed, &found)).unwrap_or(found))
}

/// What was typed, if it is a path; a mere name was looked for in folders.
fn typed_path(typed: &OsStr) -> Option<PathBuf> {
    let is_path = typed.as_encoded_bytes().contains(&b'/');
    is_path.then(|| path::absolute(typed).ok()).flatten()
}

/// Whether both are one file: a process may be given any name.
fn is_same(one: &PathBuf, other: &PathBuf) -> bool {
    let id = |path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_that_leads_to_the_same_file_counts() {
        assert_eq!(typed_path("longwire".as_ref()), None);
        assert_eq!(typed_path("/a/longwire".as_ref()), Some("/a/longwire".into()));
        assert_eq!(typed_path("./longwire".as_ref()).map(|path| path.is_absolute()), Some(true));
        let found = env::current_exe().unwrap();
        assert!(is_same(&found, &"/proc/self/exe".into()));
        assert!(!is_same(&found, &"/proc/self/stat".into()));
        assert!(!is_same(&found, &"/nowhere".into()));
    }
}
