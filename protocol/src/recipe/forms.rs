//! The table of steps and the recipes that come with hone: data, nothing else. Adding a step begins here.
//!
//! Thresholds are those of Gopher, C4 and FineWeb (see `docs/recipes.md`), which are for web texts; chats have their own preset.

mod clean;
mod filters;
mod quality;
mod sets;

use super::{Family, RecipePreset, StepField, StepForm};
use crate::dataset::Shape;
use crate::form::FieldKind::{self, Choice};
use crate::form::{Both, both};

const fn step(word: &'static str, family: Family, label: Both, about: Both, fields: &'static [StepField]) -> StepForm {
    StepForm { word, family, label, about, fields }
}

const fn field(key: &'static str, kind: FieldKind, default: &'static str, label: Both, about: Both) -> StepField {
    StepField { key, kind, label, about, default }
}

/// What is looked at.
const OF: FieldKind = Choice(&["row", "prompt", "answer"]);
const YES_NO: FieldKind = Choice(&["yes", "no"]);

/// All steps.
pub static STEPS: &[StepForm] = &[
    clean::UNICODE,
    clean::CONTROL,
    clean::SPACES,
    clean::HTML,
    clean::BOILERPLATE,
    clean::SIMPLIFIED,
    filters::LENGTH,
    filters::TURNS,
    filters::ROLES,
    filters::ANSWER,
    filters::PHRASES,
    filters::REGEX,
    filters::FIELD,
    filters::CHARACTERS,
    quality::REPETITION,
    quality::WORDS,
    quality::LINES,
    quality::LANGUAGE,
    sets::EXACT,
    sets::NEAR,
    sets::MASK,
    sets::SECRETS,
    sets::DECONTAMINATE,
    sets::SAMPLE,
    sets::CONVERT,
];

/// Recipes that come with hone.
pub static PRESETS: &[RecipePreset] = &[
    RecipePreset {
        name: "chat",
        shape: Shape::Chat,
        about: both(
            "For chats to train on: clean, well-formed, no bad answers or refusals, no copies, no secrets.",
            "用于训练的对话：干净、格式正确，没有坏回答和拒答，没有重复和密钥。",
        ),
        steps: &[
            ("unicode", &[]),
            ("control", &[]),
            ("spaces", &[]),
            ("roles", &[]),
            ("answer", &[]),
            ("phrases", &[]),
            ("repetition", &[]),
            ("length", &[("unit", "tokens"), ("max", "8192")]),
            ("exact", &[]),
            ("near", &[]),
            ("secrets", &[]),
            ("mask", &[]),
        ],
    },
    RecipePreset {
        name: "preference",
        shape: Shape::Preference,
        about: both(
            "For pairs of answers: clean, no copies of a prompt with its answers, no secrets.",
            "用于成对回答：干净，没有重复，没有密钥。",
        ),
        steps: &[
            ("unicode", &[]),
            ("control", &[]),
            ("spaces", &[]),
            ("length", &[("min", "8"), ("max", "100000")]),
            ("exact", &[]),
            ("near", &[]),
            ("secrets", &[]),
            ("mask", &[]),
        ],
    },
    RecipePreset {
        name: "prompt",
        shape: Shape::Prompt,
        about: both(
            "For prompts with expected answers, of evaluations or classes, that become chats to train on: clean, no copies, no secrets.",
            "把带期望答案的提示（评测或分类）变成用于训练的对话：干净，没有重复，没有密钥。",
        ),
        steps: &[
            ("convert", &[]),
            ("unicode", &[]),
            ("control", &[]),
            ("spaces", &[]),
            ("length", &[("unit", "tokens"), ("max", "8192")]),
            ("exact", &[]),
            ("secrets", &[]),
            ("mask", &[]),
        ],
    },
    RecipePreset {
        name: "text",
        shape: Shape::Text,
        about: both(
            "For texts to pre-train on: the measures of Gopher and FineWeb, then near duplicates and personal data.",
            "用于预训练的文本：Gopher 与 FineWeb 的指标，然后是近似重复与个人信息。",
        ),
        steps: &[
            ("unicode", &[]),
            ("control", &[]),
            ("html", &[]),
            ("spaces", &[]),
            ("boilerplate", &[]),
            ("repetition", &[]),
            ("words", &[]),
            ("lines", &[]),
            ("exact", &[]),
            ("near", &[]),
            ("secrets", &[]),
            ("mask", &[]),
        ],
    },
];
