//! The keys that requests are made with.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

/// A token a line; none at all where requests have no key.
#[derive(Debug)]
pub(super) struct Keys {
    text: String,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Keys {
    pub(super) const fn none() -> Self {
        Self {
            text: String::new(),
            ends: Vec::new(),
        }
    }

    pub(super) fn read(file: &Path, distinct: Option<usize>) -> anyhow::Result<Self> {
        let text = fs::read_to_string(file)
            .with_context(|| format!("--keys: {} cannot be read", file.display()))?;
        let mut keys = Self::none();
        for line in text.lines().take(distinct.unwrap_or(usize::MAX)) {
            ensure!(
                !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_graphic()),
                "--keys: line {} of {} is no token",
                keys.ends.len() + 1,
                file.display()
            );
            keys.text.push_str(line);
            keys.ends.push(keys.text.len());
        }
        let wanted = distinct.unwrap_or(1);
        ensure!(
            keys.len() >= wanted,
            "--keys: {} has {} keys, of which {wanted} are wanted",
            file.display(),
            keys.len()
        );
        Ok(keys)
    }

    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, number: usize) -> &str {
        let from = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[from..self.ends[number]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, distinct: Option<usize>) -> anyhow::Result<Keys> {
        let file = std::env::temp_dir().join(format!("keys-{}-{}", std::process::id(), text.len()));
        fs::write(&file, text)?;
        let keys = Keys::read(&file, distinct);
        fs::remove_file(&file)?;
        keys
    }

    #[test]
    fn a_line_is_a_token() {
        let keys = read("one\ntwo\nthree\n", None).unwrap();
        let all: Vec<_> = (0..keys.len()).map(|number| keys.get(number)).collect();
        assert_eq!(all, ["one", "two", "three"]);
        assert_eq!(read("one\ntwo\n", Some(1)).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_token_or_not_there_is_said() {
        let empty_line = read("one\n\ntwo", None).unwrap_err().to_string();
        assert!(empty_line.contains("line 2"), "{empty_line}");
        let few = read("a-single-one", Some(3)).unwrap_err().to_string();
        assert!(few.contains("has 1 keys, of which 3 are wanted"), "{few}");
        assert!(read("", None).is_err());
    }
}
