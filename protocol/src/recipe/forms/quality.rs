//! Forms of the steps with many measures: repetition, words, lines, languages. Data, nothing else.

use super::{OF, YES_NO, field, step};
use crate::form::FieldKind::{Real, Text, Whole};
use crate::form::both;
use crate::recipe::{Family, StepForm};

pub(super) const REPETITION: StepForm = step(
    "repetition",
    Family::Filter,
    both("Repetition", "重复"),
    both(
        "Drops rows that say the same again and again, by the measures of Gopher. The first measure that is too high is the reason.",
        "用 Gopher 的指标去掉翻来覆去的行。第一个超过的指标就是原因。",
    ),
    &[
        field(
            "of",
            OF,
            "row",
            both("Of", "看哪部分"),
            both(
                "What is looked at: the whole row, the prompt (everything before the last answer) or the answer.",
                "看哪一部分：整行、提示（最后一个回答之前的全部）或回答。",
            ),
        ),
        field(
            "words_min",
            Whole { low: 0, high: 1_000_000_000 },
            "50",
            both("Not below", "至少词数"),
            both(
                "Texts of fewer words are not measured: in short ones everything repeats or nothing does.",
                "词数更少的文本不测：短文本里要么全重复要么不重复。",
            ),
        ),
        field(
            "lines",
            Real { low: 0.0, high: 1.0 },
            "0.3",
            both("Repeated lines", "重复的行"),
            both("Share of lines that repeat an earlier one.", "重复前面某行的行所占比例。"),
        ),
        field(
            "line_characters",
            Real { low: 0.0, high: 1.0 },
            "0.2",
            both("Characters in repeated lines", "重复行的字符"),
            both("Share of characters in them.", "这些行的字符所占比例。"),
        ),
        field(
            "top_2",
            Real { low: 0.0, high: 1.0 },
            "0.2",
            both("Most common pair", "最常见二词组"),
            both("Share of characters in the most common pair of words.", "最常见的两词组合的字符所占比例。"),
        ),
        field(
            "top_3",
            Real { low: 0.0, high: 1.0 },
            "0.18",
            both("Most common triple", "最常见三词组"),
            both("The same for three words.", "三个词的同样比例。"),
        ),
        field(
            "top_4",
            Real { low: 0.0, high: 1.0 },
            "0.16",
            both("Most common four", "最常见四词组"),
            both("The same for four words.", "四个词的同样比例。"),
        ),
        field(
            "repeated_5",
            Real { low: 0.0, high: 1.0 },
            "0.15",
            both("Repeated runs of 5", "重复的5词串"),
            both("Share of characters in runs of 5 words that come again.", "再次出现的 5 词串的字符所占比例。"),
        ),
        field(
            "repeated_6",
            Real { low: 0.0, high: 1.0 },
            "0.14",
            both("Repeated runs of 6", "重复的6词串"),
            both("Share of characters in runs of 6 words that come again.", "再次出现的 6 词串的字符所占比例。"),
        ),
        field(
            "repeated_7",
            Real { low: 0.0, high: 1.0 },
            "0.13",
            both("Repeated runs of 7", "重复的7词串"),
            both("Share of characters in runs of 7 words that come again.", "再次出现的 7 词串的字符所占比例。"),
        ),
        field(
            "repeated_8",
            Real { low: 0.0, high: 1.0 },
            "0.12",
            both("Repeated runs of 8", "重复的8词串"),
            both("Share of characters in runs of 8 words that come again.", "再次出现的 8 词串的字符所占比例。"),
        ),
        field(
            "repeated_9",
            Real { low: 0.0, high: 1.0 },
            "0.11",
            both("Repeated runs of 9", "重复的9词串"),
            both("Share of characters in runs of 9 words that come again.", "再次出现的 9 词串的字符所占比例。"),
        ),
        field(
            "repeated_10",
            Real { low: 0.0, high: 1.0 },
            "0.1",
            both("Repeated runs of 10", "重复的10词串"),
            both("Share of characters in runs of 10 words that come again.", "再次出现的 10 词串的字符所占比例。"),
        ),
    ],
);

pub(super) const WORDS: StepForm = step(
    "words",
    Family::Filter,
    both("Words", "词"),
    both(
        "Drops texts by the quality measures of Gopher. For texts to pre-train on; chats are too short for it.",
        "用 Gopher 的质量指标去掉文本。用于预训练文本；对话太短，不适用。",
    ),
    &[
        field(
            "min",
            Whole { low: 0, high: 1_000_000_000 },
            "50",
            both("Least words", "最少词数"),
            both("Fewer words are dropped.", "更少的去掉。"),
        ),
        field(
            "max",
            Whole { low: 1, high: 1_000_000_000 },
            "100000",
            both("Most words", "最多词数"),
            both("More words are dropped.", "更多的去掉。"),
        ),
        field(
            "mean_min",
            Real { low: 0.0, high: 100.0 },
            "3",
            both("Least mean length", "平均词长下限"),
            both("Characters of a word on average. Chinese characters are not counted.", "词的平均字符数。汉字不计。"),
        ),
        field(
            "mean_max",
            Real { low: 0.0, high: 1000.0 },
            "10",
            both("Most mean length", "平均词长上限"),
            both("Characters of a word on average.", "词的平均字符数。"),
        ),
        field(
            "symbols_max",
            Real { low: 0.0, high: 1.0 },
            "0.1",
            both("Most symbols", "符号上限"),
            both("Hash signs, and ellipses, for each word.", "每个词的井号数、省略号数。"),
        ),
        field(
            "bullets_max",
            Real { low: 0.0, high: 1.0 },
            "0.9",
            both("Most bullets", "列表行上限"),
            both("Share of lines that begin with a bullet.", "以项目符号开头的行所占比例。"),
        ),
        field(
            "ellipses_max",
            Real { low: 0.0, high: 1.0 },
            "0.3",
            both("Most cut lines", "省略行上限"),
            both("Share of lines that end with an ellipsis.", "以省略号结尾的行所占比例。"),
        ),
        field(
            "letters_min",
            Real { low: 0.0, high: 1.0 },
            "0.8",
            both("Least words with letters", "含字母词下限"),
            both("Share of words that hold a letter.", "含字母的词所占比例。"),
        ),
        field(
            "common_min",
            Whole { low: 0, high: 20 },
            "2",
            both("Common words", "常用词"),
            both(
                "How many of the, be, to, of, and, that, have, with must be there. Only for texts in Latin letters.",
                "the、be、to、of、and、that、have、with 中至少出现几个。只用于拉丁字母文本。",
            ),
        ),
    ],
);

pub(super) const LINES: StepForm = step(
    "lines",
    Family::Filter,
    both("Lines", "行"),
    both(
        "Drops texts whose lines look like a list or a menu, by the measures of FineWeb.",
        "用 FineWeb 的指标去掉像列表或菜单的文本。",
    ),
    &[
        field(
            "ends_min",
            Real { low: 0.0, high: 1.0 },
            "0.12",
            both("Least full ends", "句末标点下限"),
            both("Share of lines that end with a mark such as a full stop.", "以句号等结尾的行所占比例。"),
        ),
        field(
            "short_max",
            Real { low: 0.0, high: 1.0 },
            "0.67",
            both("Most short lines", "短行上限"),
            both("Share of lines of 30 characters and fewer.", "不超过 30 个字符的行所占比例。"),
        ),
        field(
            "newlines_max",
            Real { low: 0.0, high: 10.0 },
            "0.3",
            both("Most lines a word", "每词换行上限"),
            both("Line ends for each word.", "每个词的换行数。"),
        ),
    ],
);

pub(super) const LANGUAGE: StepForm = step(
    "language",
    Family::Filter,
    both("Language", "语言"),
    both(
        "Drops rows in other languages. A small detector of scripts and trigrams: short texts are often not recognised, and stay.",
        "去掉其他语言的行。用文字和三字母组合的小检测器：短文本常认不出，会保留。",
    ),
    &[
        field(
            "languages",
            Text,
            "",
            both("Languages", "语言"),
            both(
                "Codes of the languages that stay, separated by commas, such as en,zh; empty for all.",
                "保留的语言代码，用逗号分隔，如 en,zh；留空为全部。",
            ),
        ),
        field(
            "of",
            OF,
            "row",
            both("Of", "看哪部分"),
            both(
                "What is looked at: the whole row, the prompt (everything before the last answer) or the answer.",
                "看哪一部分：整行、提示（最后一个回答之前的全部）或回答。",
            ),
        ),
        field(
            "characters_min",
            Whole { low: 1, high: 100000 },
            "20",
            both("Not below", "至少字符"),
            both("Shorter texts are not judged.", "更短的文本不判断。"),
        ),
        field(
            "share_min",
            Real { low: 0.0, high: 1.0 },
            "0.65",
            both("Least certainty", "最低把握"),
            both("A language that is less certain counts as not recognised.", "把握更低的算认不出。"),
        ),
        field(
            "same",
            YES_NO,
            "no",
            both("As the question", "与问题一致"),
            both(
                "Drops chats whose answer is in another language than the question.",
                "去掉回答与问题语言不同的对话。",
            ),
        ),
    ],
);
