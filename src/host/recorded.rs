//! Trees of files as another machine had them, for tests.

use std::path::Path;

/// A directory that goes away with the test.
pub(super) struct Recorded(tempfile::TempDir);

impl Recorded {
    pub(super) fn new(files: &[(&str, &str)]) -> Recorded {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().expect("below the directory")).expect("mkdir");
            std::fs::write(path, text).expect("write");
        }
        Recorded(directory)
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}
