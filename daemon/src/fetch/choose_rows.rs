//! Which files of a dataset repository are wanted: the one that is named, else those for training, else all that hold rows.
//! Never here: requests, and what the files hold.

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::model::{HubSource, is_repo_path};

use super::choose::Entry;

/// Files that one pull brings.
const FILES_MAX: usize = 256;
/// Ends of the names of files that hold rows.
const ENDS: &[&str] = &["jsonl", "ndjson", "json", "csv", "tsv", "parquet", "arrow", "txt"];

/// The wanted files.
pub(super) fn rows_of<'e>(source: &HubSource, entries: &'e [Entry]) -> Result<Vec<&'e Entry>, Failure> {
    let safe: Vec<&Entry> = entries.iter().filter(|entry| is_repo_path(&entry.path)).collect();
    if !source.file.is_empty() {
        let named = safe.iter().find(|entry| entry.path == source.file);
        return named
            .map(|entry| vec![*entry])
            .ok_or_else(|| refused(source, &format!("has no file {:?}", source.file)));
    }
    let rows: Vec<&Entry> = safe.into_iter().filter(|entry| holds_rows(&entry.path)).collect();
    let train: Vec<&Entry> = rows.iter().copied().filter(|entry| is_for_training(&entry.path)).collect();
    let wanted = if train.is_empty() { rows } else { train };
    match wanted.len() {
        0 => Err(refused(source, "has no file of rows")),
        1..=FILES_MAX => Ok(wanted),
        count => Err(refused(source, &format!("has {count} files of rows; at most {FILES_MAX} are brought, name one"))),
    }
}

fn holds_rows(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    let notes = [
        "dataset_infos.json",
        "dataset_info.json",
        "dataset_dict.json",
        "state.json",
        "config.json",
        "requirements.txt",
        "licence.txt",
        "license.txt",
    ];
    let hidden = path.split('/').any(|part| part.starts_with('.'));
    !hidden && !notes.contains(&name) && name.rsplit_once('.').is_some_and(|(_, end)| ENDS.contains(&end))
}

/// Whether a word of the path says that it is the training part.
fn is_for_training(path: &str) -> bool {
    path.to_lowercase().split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "train")
}

fn refused(source: &HubSource, problem: &str) -> Failure {
    Failure::new(FailureCode::NotFound, format!("{} {problem}", source.repo))
        .at(source.repo.clone())
        .hint(HintCode::CorrectField)
}

#[cfg(test)]
mod tests {
    use hone_protocol::model::{Hub, WeightsAs};

    use super::*;

    fn chosen(file: &str, paths: &[&str]) -> Result<Vec<String>, String> {
        let entry = |path: &&str| Entry { path: (*path).to_owned(), size: None, sha256: None, identity: String::new() };
        let entries: Vec<Entry> = paths.iter().map(entry).collect();
        let (repo, file) = ("quiet/owls".to_owned(), file.to_owned());
        let source =
            HubSource { hub: Hub::Huggingface, repo, revision: String::new(), file, weights: WeightsAs::AsStored };
        rows_of(&source, &entries)
            .map(|found| found.iter().map(|entry| entry.path.clone()).collect())
            .map_err(|failure| failure.message_en)
    }

    #[test]
    fn the_named_file_else_the_training_part_else_all() {
        let paths =
            ["README.md", ".gitattributes", "data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"];
        assert_eq!(chosen("", &paths).unwrap(), ["data/train-00000-of-00001.parquet"]);
        assert_eq!(chosen("data/test-00000-of-00001.parquet", &paths).unwrap(), ["data/test-00000-of-00001.parquet"]);
        assert_eq!(chosen("", &["a.jsonl", "b.csv.gz", "dataset_infos.json"]).unwrap(), ["a.jsonl", "b.csv.gz"]);
        assert!(chosen("c.jsonl", &paths).unwrap_err().contains("has no file \"c.jsonl\""));
        assert!(chosen("", &["README.md", "../x.jsonl"]).unwrap_err().contains("has no file of rows"));
    }
}
