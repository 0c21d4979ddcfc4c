//! The words in `school/text/`: everything that is said, in files that a person can read through.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// An idea of the page.
pub struct Topic {
    /// Alternatives of its name.
    pub names: String,
    /// What it is.
    pub says: String,
    /// What is said when more is asked for.
    pub more: String,
}

/// A question and what may be answered.
pub struct Asked {
    /// Alternatives of the question.
    pub asks: String,
    /// The answers.
    pub says: Vec<String>,
    /// What the teacher says instead, if anything.
    pub lead: Option<String>,
}

/// An everyday fact.
pub struct Fact {
    /// Alternatives of the question.
    pub asks: String,
    /// The answer in a word.
    pub short: String,
    /// The answer in a sentence.
    pub says: String,
}

/// Everything.
pub struct Text {
    /// `topics.txt`
    pub topics: Vec<Topic>,
    /// `asked.txt`
    pub asked: Vec<Asked>,
    /// `smalltalk.txt`
    pub small_talk: Vec<Asked>,
    /// `facts.txt`
    pub facts: Vec<Fact>,
    /// `tables.txt`
    pub tables: Tables,
    /// `desk.txt`
    pub desk: Tables,
}

/// Sections of entries.
pub struct Tables(BTreeMap<String, Vec<String>>);

impl Tables {
    fn read(text: &str) -> Self {
        let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut name = String::new();
        for line in text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        {
            match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                Some(section) if !section.contains('|') => section.clone_into(&mut name),
                _ => {
                    let entries = sections.entry(name.clone()).or_default();
                    // A line of alternatives is one entry; other lines hold several.
                    if line.contains('[') {
                        entries.push(line.trim().to_owned());
                    } else {
                        entries.extend(line.split('|').map(|e| e.trim().to_owned()).filter(|e| !e.is_empty()));
                    }
                }
            }
        }
        Self(sections)
    }

    /// The entries of a section.
    ///
    /// # Panics
    /// If there is no such section: the texts are part of the program.
    pub fn list(&self, section: &str) -> &[String] {
        self.0
            .get(section)
            .unwrap_or_else(|| panic!("school/text has no section [{section}]"))
    }

    /// The entries of a section, each cut at `sep`.
    pub fn pairs(&self, section: &str, sep: &str) -> Vec<(&str, &str)> {
        let cut = |entry: &'_ String| -> (usize, usize) {
            let at = entry
                .find(sep)
                .unwrap_or_else(|| panic!("[{section}]: '{entry}' has no '{sep}'"));
            (at, at + sep.len())
        };
        self.list(section)
            .iter()
            .map(|entry| {
                let (end, begin) = cut(entry);
                (entry[..end].trim(), entry[begin..].trim())
            })
            .collect()
    }

    /// Names of the sections that begin with `prefix`, without it.
    pub fn sections(&self, prefix: &str) -> Vec<&str> {
        self.0.keys().filter_map(|key| key.strip_prefix(prefix)).collect()
    }
}

/// Blocks of `key: value` lines, a blank line between blocks.
fn blocks(text: &str) -> Vec<Vec<(String, String)>> {
    let lines = |block: &str| -> Vec<(String, String)> {
        block
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(": "))
            .map(|(key, value)| (key.to_owned(), value.replace("\\n", "\n")))
            .collect()
    };
    text.split("\n\n")
        .map(lines)
        .filter(|block| !block.is_empty())
        .collect()
}

fn one(block: &[(String, String)], key: &str) -> Option<String> {
    block.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone())
}

fn must(block: &[(String, String)], key: &str) -> String {
    one(block, key).unwrap_or_else(|| panic!("a block of school/text lacks '{key}': {block:?}"))
}

fn asked(text: &str) -> Vec<Asked> {
    blocks(text)
        .iter()
        .map(|block| Asked {
            asks: must(block, "asks"),
            says: block
                .iter()
                .filter(|(k, _)| k == "says")
                .map(|(_, v)| v.clone())
                .collect(),
            lead: one(block, "lead"),
        })
        .collect()
}

/// The texts, read once.
pub static TEXT: LazyLock<Text> = LazyLock::new(|| Text {
    topics: blocks(include_str!("../text/topics.txt"))
        .iter()
        .map(|b| Topic {
            names: must(b, "names"),
            says: must(b, "says"),
            more: must(b, "more"),
        })
        .collect(),
    asked: asked(include_str!("../text/asked.txt")),
    small_talk: asked(include_str!("../text/smalltalk.txt")),
    facts: blocks(include_str!("../text/facts.txt"))
        .iter()
        .map(|b| Fact {
            asks: must(b, "asks"),
            short: must(b, "short"),
            says: must(b, "says"),
        })
        .collect(),
    tables: Tables::read(include_str!("../text/tables.txt")),
    desk: Tables::read(include_str!("../text/desk.txt")),
});
