//! Who made a student, from what, under which terms: as far as the file says so.

use super::gguf::Metadata;
use serde::Serialize;

/// A model or a dataset that the file names as an ancestor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ancestor {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// Its address, as text: nothing here opens it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo_url: Option<String>,
}

/// The `general.*` facts of a file. `None` means that the file is silent, which is shown as such.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[allow(missing_docs, reason = "each field is the metadata key of its name")]
pub struct Provenance {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license_link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantized_by: Option<String>,
    pub base_models: Vec<Ancestor>,
    pub datasets: Vec<Ancestor>,
    pub tags: Vec<String>,
    pub languages: Vec<String>,
    /// What the file says of a teacher, in its own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distilled: Option<String>,
}

/// Most ancestors that are listed.
const ANCESTORS: u64 = 32;

/// Longest text that is shown of one fact.
const TEXT: usize = 600;

impl Provenance {
    /// Reads the facts of a file.
    pub fn from_metadata(metadata: &Metadata) -> Self {
        let cut = |text: &str| text.chars().take(TEXT).collect::<String>();
        let text = |key: &str| metadata.str(key).filter(|text| !text.trim().is_empty()).map(cut);
        let general = |key: &str| text(&format!("general.{key}"));
        let list = |key: &str| -> Vec<String> {
            metadata
                .strings(key)
                .unwrap_or_default()
                .iter()
                .take(64)
                .map(|text| cut(text))
                .collect()
        };
        let ancestors = |kind: &str| -> Vec<Ancestor> {
            let count = metadata
                .u64(&format!("general.{kind}.count"))
                .unwrap_or(0)
                .min(ANCESTORS);
            (0..count)
                .map(|i| Ancestor {
                    name: general(&format!("{kind}.{i}.name")),
                    organization: general(&format!("{kind}.{i}.organization")),
                    repo_url: general(&format!("{kind}.{i}.repo_url")).or(general(&format!("{kind}.{i}.url"))),
                })
                .collect()
        };
        // No standard key says who taught a student; files that say it use the word.
        let distilled = metadata
            .iter()
            .find(|(key, _)| !key.starts_with("tokenizer.") && (key.contains("distill") || key.contains("teacher")))
            .and_then(|(key, _)| text(key));
        Self {
            name: general("name"),
            author: general("author"),
            organization: general("organization"),
            version: general("version"),
            license: general("license.name").or(general("license")),
            license_link: general("license.link"),
            description: general("description"),
            url: general("repo_url").or(general("url")).or(general("source.url")),
            quantized_by: general("quantized_by"),
            base_models: ancestors("base_model"),
            datasets: ancestors("dataset"),
            tags: list("general.tags"),
            languages: list("general.languages"),
            distilled,
        }
    }
}
