//! Labels as persons type them: `good, fixable, -unsafe=Not safe`. Never here: what a label is (the protocol says).

use hone_protocol::labelling::{LabelName, Task};

/// What stands between labels; Chinese commas count as well.
const BETWEEN: [char; 4] = [',', '，', '、', ';'];

/// Labels out of a line: names with commas between them, `=` before a title, `-` before one whose rows are not kept.
pub(crate) fn parse(typed: &str) -> Vec<LabelName> {
    let parts = typed.split(BETWEEN).map(str::trim).filter(|part| !part.is_empty());
    let one = |part: &str| {
        let (keep, part) = part.strip_prefix('-').map_or((true, part), |rest| (false, rest));
        let (name, title) = part.split_once('=').unwrap_or((part, ""));
        LabelName { name: name.trim().to_owned(), title: title.trim().to_owned(), keep }
    };
    parts.map(one).collect()
}

/// The line that such labels are typed as.
pub(crate) fn typed(labels: &[LabelName]) -> String {
    let one = |label: &LabelName| {
        let minus = if label.keep { "" } else { "-" };
        let title = if label.title.is_empty() { String::new() } else { format!("={}", label.title) };
        format!("{minus}{}{title}", label.name)
    };
    labels.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The task of a kind with its labels, reasons and scale; none where there is no such kind.
pub(crate) fn task(kind: &str, labels: &str, reasons: &str, scale: u32) -> Option<Task> {
    let labels = parse(labels);
    Some(match kind {
        "choice" => Task::Choice { labels },
        "several" => Task::Several { labels },
        "span" => Task::Span { labels },
        "pair" => {
            let reasons = reasons.split(BETWEEN).map(str::trim).filter(|reason| !reason.is_empty());
            Task::Pair { reasons: reasons.map(str::to_owned).collect() }
        }
        "rank" => Task::Rank,
        "rating" => Task::Rating { scale },
        "edit" => Task::Edit,
        _ => return None,
    })
}

/// All kinds of tasks, in the order in which they are offered.
pub(crate) const KINDS: &[&str] = &["choice", "several", "span", "pair", "rank", "rating", "edit"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_typed_and_read_back() {
        let line = "good, fixable=Can be mended, -unsafe=不安全";
        assert_eq!(typed(&parse(line)), line);
        assert_eq!(parse("姓名、 地址，").len(), 2);
        assert!(KINDS.iter().all(|kind| task(kind, "a, b", "", 5).is_some_and(|task| task.word() == *kind)));
    }
}
