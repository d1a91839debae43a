//! The forms of all steps and the recipes that come with hone: data, nothing else. Adding a step begins here.
//!
//! Thresholds are those of Gopher, C4 and FineWeb (see `docs/recipes.md`), which are for web texts; chats have their own preset.

use super::Family::{Clean, Convert, Duplicates, Filter, Privacy, Sample};
use super::{Family, RecipePreset, StepField, StepForm};
use crate::dataset::Shape;
use crate::form::FieldKind::{self, Choice, Real, Several, Text, Texts, Whole};
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
    step(
        "unicode",
        Clean,
        both("Unicode form", "Unicode 规范化"),
        both("Writes the same character always the same way.", "让同一个字符总是用同一种方式书写。"),
        &[field(
            "form",
            Choice(&["nfc", "nfkc"]),
            "nfc",
            both("Form", "形式"),
            both(
                "nfc keeps what characters look like; nfkc also turns full-width letters, ligatures and the like into plain ones.",
                "nfc 保持字形；nfkc 还把全角字母、连字等变成普通字符。",
            ),
        )],
    ),
    step(
        "control",
        Clean,
        both("Control characters", "控制字符"),
        both(
            "Removes characters that cannot be seen: control characters, byte order marks, zero-width and direction marks. Tabs and line ends stay.",
            "去掉看不见的字符：控制字符、字节顺序标记、零宽字符和方向标记。制表符和换行保留。",
        ),
        &[],
    ),
    step(
        "spaces",
        Clean,
        both("White space", "空白"),
        both(
            "Trims lines and texts, makes other spaces plain ones and shortens runs of empty lines. Indentation stays.",
            "去掉行尾和首尾空白，把特殊空格变成普通空格，缩短连续空行。缩进保留。",
        ),
        &[field(
            "blank_lines",
            Whole { low: 0, high: 20 },
            "1",
            both("Empty lines", "空行"),
            both("Most empty lines that stay together.", "最多保留几行连续空行。"),
        )],
    ),
    step(
        "html",
        Clean,
        both("HTML", "HTML"),
        both("Turns HTML entities such as &amp; into characters.", "把 &amp; 这类 HTML 实体变成字符。"),
        &[field(
            "tags",
            Choice(&["keep", "strip"]),
            "keep",
            both("Tags", "标签"),
            both(
                "Whether tags such as <br> go too. Code that talks of HTML would lose them.",
                "是否也去掉 <br> 这类标签。讲 HTML 的代码会因此受损。",
            ),
        )],
    ),
    step(
        "boilerplate",
        Clean,
        both("Boilerplate lines", "样板行"),
        both(
            "Removes lines that belong to a web page and not to its text: cookies, policies, menus.",
            "去掉属于网页而不属于正文的行：Cookie 提示、政策、菜单。",
        ),
        &[
            field(
                "built_in",
                YES_NO,
                "yes",
                both("Built-in list", "内置列表"),
                both(
                    "Lines with a phrase such as \"privacy policy\" or \"accept cookies\", in English and Chinese.",
                    "含“隐私政策”“接受 Cookie”等说法的行，中英文都有。",
                ),
            ),
            field(
                "list",
                Texts { most: 1000 },
                "",
                both("More phrases", "更多说法"),
                both(
                    "Lines that hold one of these go as well, whatever their case.",
                    "含有这些说法之一的行也去掉，不分大小写。",
                ),
            ),
            field(
                "line_characters_max",
                Whole { low: 1, high: 100000 },
                "200",
                both("Longest line", "最长行"),
                both(
                    "Longer lines stay: they are text that mentions the phrase.",
                    "更长的行保留：那是提到该说法的正文。",
                ),
            ),
        ],
    ),
    step(
        "simplified",
        Clean,
        both("Simplified Chinese", "转为简体"),
        both(
            "Writes traditional Chinese in simplified characters, phrases first, with the tables of OpenCC.",
            "把繁体中文写成简体，先看词再看字，用 OpenCC 的表。",
        ),
        &[],
    ),
    step(
        "length",
        Filter,
        both("Length", "长度"),
        both("Drops rows that are too short or too long.", "去掉太短或太长的行。"),
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
                "unit",
                Choice(&["characters", "words", "tokens"]),
                "characters",
                both("Unit", "单位"),
                both(
                    "Characters, words (a Chinese character is one), or tokens as they are estimated: a word is 1.3, a Chinese character is 1. Facts count them exactly.",
                    "字符、词（一个汉字算一个），或估计的 token：一个词 1.3，一个汉字 1。要精确数看“统计”。",
                ),
            ),
            field(
                "min",
                Whole { low: 0, high: 1_000_000_000 },
                "1",
                both("Least", "最少"),
                both("Shorter ones are dropped.", "更短的去掉。"),
            ),
            field(
                "max",
                Whole { low: 0, high: 1_000_000_000 },
                "0",
                both("Most", "最多"),
                both("Longer ones are dropped; 0 for no limit.", "更长的去掉；0 表示不限。"),
            ),
        ],
    ),
    step(
        "turns",
        Filter,
        both("Turns", "轮数"),
        both("Drops rows with too few or too many messages.", "去掉消息太少或太多的行。"),
        &[
            field(
                "min",
                Whole { low: 1, high: 10000 },
                "2",
                both("Least", "最少"),
                both(
                    "Fewer messages, the system message not counted, are dropped.",
                    "消息（不算系统消息）更少的去掉。",
                ),
            ),
            field(
                "max",
                Whole { low: 1, high: 10000 },
                "64",
                both("Most", "最多"),
                both("More messages are dropped.", "消息更多的去掉。"),
            ),
        ],
    ),
    step(
        "roles",
        Filter,
        both("Order of roles", "角色顺序"),
        both(
            "Drops chats whose roles are out of order: a system message that is not first, two turns of one side in a row, no user at the beginning, no answer at the end.",
            "去掉角色顺序不对的对话：系统消息不在最前、同一方连说两轮、开头不是用户、结尾不是回答。",
        ),
        &[],
    ),
    step(
        "answer",
        Filter,
        both("Bad answers", "坏回答"),
        both(
            "Drops chats whose last answer is empty, repeats the question, breaks off, leaves a code block open, is no JSON where JSON was asked for, or shows markup of a template.",
            "去掉最后一个回答有问题的对话：空的、重复问题、中途断掉、代码块没有结束、要求 JSON 却不是 JSON、露出模板标记。",
        ),
        &[
            field(
                "characters_min",
                Whole { low: 0, high: 10000 },
                "1",
                both("Least characters", "最少字符"),
                both(
                    "Shorter answers are dropped; yes and no are answers, too, so leave this low.",
                    "更短的回答去掉；“是”“否”也是回答，不要设高。",
                ),
            ),
            field(
                "echo",
                YES_NO,
                "yes",
                both("Repeats the question", "重复问题"),
                both("Drops answers that are the question again.", "去掉只是把问题重复一遍的回答。"),
            ),
            field(
                "cut",
                YES_NO,
                "yes",
                both("Breaks off", "中途断掉"),
                both("Drops long answers that end in the middle of a sentence.", "去掉在句子中间结束的长回答。"),
            ),
            field(
                "fence",
                YES_NO,
                "yes",
                both("Open code block", "未结束的代码块"),
                both("Drops answers with an odd number of ``` fences.", "去掉 ``` 个数为奇数的回答。"),
            ),
            field(
                "json",
                YES_NO,
                "yes",
                both("Broken JSON", "坏的 JSON"),
                both(
                    "Drops answers that are no JSON although the question asks for nothing but JSON.",
                    "问题要求只回答 JSON，而回答不是 JSON，就去掉。",
                ),
            ),
            field(
                "markup",
                YES_NO,
                "yes",
                both("Template markup", "模板标记"),
                both("Drops rows that hold control tokens of chat templates.", "去掉含有对话模板控制标记的行。"),
            ),
        ],
    ),
    step(
        "phrases",
        Filter,
        both("Refusals and phrases", "拒答与说法"),
        both("Drops rows whose answer holds a phrase, such as a refusal.", "去掉回答中含有某种说法（如拒答）的行。"),
        &[
            field(
                "built_in",
                Choice(&["refusals", "none"]),
                "refusals",
                both("Built-in list", "内置列表"),
                both(
                    "Refusals and \"as an AI language model\", in English and Chinese.",
                    "拒答和“作为一个人工智能语言模型”之类，中英文都有。",
                ),
            ),
            field(
                "list",
                Texts { most: 1000 },
                "",
                both("More phrases", "更多说法"),
                both("Also these, whatever their case.", "还有这些，不分大小写。"),
            ),
            field(
                "of",
                OF,
                "answer",
                both("Of", "看哪部分"),
                both(
                    "What is looked at: the whole row, the prompt (everything before the last answer) or the answer.",
                    "看哪一部分：整行、提示（最后一个回答之前的全部）或回答。",
                ),
            ),
            field(
                "within",
                Whole { low: 0, high: 1_000_000_000 },
                "200",
                both("Within", "范围"),
                both(
                    "Only so many characters from the beginning are looked at; 0 for all. A refusal stands at the beginning.",
                    "只看开头这么多字符；0 表示全部。拒答总在开头。",
                ),
            ),
        ],
    ),
    step(
        "regex",
        Filter,
        both("Expression", "正则表达式"),
        both("Drops rows by a regular expression.", "按正则表达式去掉行。"),
        &[
            field(
                "pattern",
                Text,
                "",
                both("Expression", "表达式"),
                both(
                    "In the syntax of the Rust crate regex; (?i) ignores case.",
                    "Rust regex 库的语法；(?i) 忽略大小写。",
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
                "drop",
                Choice(&["matching", "others"]),
                "matching",
                both("Drop", "去掉"),
                both("The rows that match, or all others.", "匹配的行，或其余的行。"),
            ),
        ],
    ),
    step(
        "field",
        Filter,
        both("Field", "字段"),
        both(
            "Drops rows by a field of the imported object, such as a score or a source.",
            "按导入对象的一个字段（如分数、来源）去掉行。",
        ),
        &[
            field(
                "path",
                Text,
                "",
                both("Field", "字段"),
                both("Its name; parts of a path are joined by dots: meta.score.", "字段名；多级用点连接：meta.score。"),
            ),
            field(
                "test",
                Choice(&["exists", "equals", "contains", "at_least", "at_most"]),
                "exists",
                both("Test", "判断"),
                both("How it is compared with the value.", "怎样与值比较。"),
            ),
            field("value", Text, "", both("Value", "值"), both("What it is compared with.", "与什么比较。")),
            field(
                "drop",
                Choice(&["matching", "others"]),
                "others",
                both("Drop", "去掉"),
                both("The rows for which it holds, or all others.", "成立的行，或其余的行。"),
            ),
        ],
    ),
    step(
        "characters",
        Filter,
        both("Kinds of characters", "字符种类"),
        both("Drops rows with too many special characters or too few letters.", "去掉特殊字符太多或字母太少的行。"),
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
                "special_max",
                Real { low: 0.0, high: 1.0 },
                "0.4",
                both("Most special", "特殊字符上限"),
                both(
                    "Share of characters that are no letter, digit or white space.",
                    "既非字母、数字也非空白的字符所占比例。",
                ),
            ),
            field(
                "letters_min",
                Real { low: 0.0, high: 1.0 },
                "0.25",
                both("Least letters and digits", "字母数字下限"),
                both("Share of characters that are letters or digits of any script.", "各种文字的字母和数字所占比例。"),
            ),
        ],
    ),
    step(
        "repetition",
        Filter,
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
    ),
    step(
        "words",
        Filter,
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
                both(
                    "Characters of a word on average. Chinese characters are not counted.",
                    "词的平均字符数。汉字不计。",
                ),
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
    ),
    step(
        "lines",
        Filter,
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
    ),
    step(
        "language",
        Filter,
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
    ),
    step(
        "exact",
        Duplicates,
        both("Exact duplicates", "完全重复"),
        both("Keeps the first of rows that are the same.", "相同的行只留第一行。"),
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
                "normalise",
                YES_NO,
                "yes",
                both("Ignore case and space", "忽略大小写与空白"),
                both(
                    "Lower case, and white space as one space, before rows are compared.",
                    "比较前转为小写，连续空白当作一个空格。",
                ),
            ),
            field(
                "against",
                Texts { most: 16 },
                "",
                both("Also against", "还与此比"),
                both(
                    "Datasets, name or name@number, whose rows are not to come again.",
                    "数据集（名称或 名称@版本号），其中的行不要再出现。",
                ),
            ),
        ],
    ),
    step(
        "near",
        Duplicates,
        both("Near duplicates", "近似重复"),
        both(
            "Keeps one of rows that are nearly the same: MinHash finds pairs, their true likeness decides, and the ledger names the row that stays.",
            "近似的行只留一行：MinHash 找出候选，真实相似度决定，处理账本写明留下的是哪一行。",
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
                "threshold",
                Real { low: 0.5, high: 1.0 },
                "0.7",
                both("Least likeness", "最低相似度"),
                both(
                    "Share of common runs of five words (Jaccard). Below 0.6 pairs begin to be missed; above 0.9 only trivial changes are found.",
                    "相同五词串所占比例（Jaccard）。低于 0.6 会漏，高于 0.9 只找到极小的改动。",
                ),
            ),
            field(
                "against",
                Texts { most: 16 },
                "",
                both("Also against", "还与此比"),
                both(
                    "Datasets, name or name@number, whose rows are not to come again in another form.",
                    "数据集（名称或 名称@版本号），其中的行不要换个样子再出现。",
                ),
            ),
        ],
    ),
    step(
        "mask",
        Privacy,
        both("Personal data", "个人信息"),
        both(
            "Replaces personal data by what it is: [EMAIL], [CARD]. Cards, IBANs and Chinese identity numbers must have a right check digit. Other fields of the row are masked, too.",
            "把个人信息换成它的种类：[EMAIL]、[CARD]。银行卡、IBAN、身份证号要校验位正确才算。行的其他字段也会遮蔽。",
        ),
        &[field(
            "kinds",
            Several(&["email", "phone", "card", "iban", "chinese_id", "ipv4"]),
            "email,phone,card,iban,chinese_id,ipv4",
            both("Kinds", "种类"),
            both("Which kinds, separated by commas.", "哪些种类，用逗号分隔。"),
        )],
    ),
    step(
        "secrets",
        Privacy,
        both("Secrets", "密钥"),
        both("Finds keys of cloud services, tokens and private keys.", "找出云服务密钥、令牌和私钥。"),
        &[field(
            "action",
            Choice(&["mask", "drop"]),
            "mask",
            both("Action", "处理"),
            both("Replace them by [SECRET], or drop the row.", "换成 [SECRET]，或去掉整行。"),
        )],
    ),
    step(
        "decontaminate",
        Privacy,
        both("Contamination", "污染"),
        both(
            "Drops rows that share a run of words with rows that are held out for an evaluation.",
            "去掉与评测保留行有共同词串的行。",
        ),
        &[
            field(
                "against",
                Texts { most: 16 },
                "",
                both("Against", "与此比"),
                both(
                    "Datasets, name or name@number, that evaluations use.",
                    "评测所用的数据集（名称或 名称@版本号）。",
                ),
            ),
            field(
                "words",
                Whole { low: 5, high: 50 },
                "13",
                both("Words in a run", "词串长度"),
                both(
                    "A Chinese character is a word. Fewer words find more, also by chance.",
                    "一个汉字算一个词。越少找到越多，也更容易是巧合。",
                ),
            ),
        ],
    ),
    step(
        "sample",
        Sample,
        both("Sample", "抽样"),
        both(
            "Keeps some of the rows. The same seed keeps the same rows.",
            "只保留一部分行。种子相同，保留的行也相同。",
        ),
        &[
            field(
                "how",
                Choice(&["random", "first", "stratified", "weighted"]),
                "random",
                both("How", "方式"),
                both(
                    "At random; the first ones; the same number of each value of a field; at random with a field as weight.",
                    "随机；取最前面的；字段的每个值取同样多；随机并以字段为权重。",
                ),
            ),
            field(
                "rows",
                Whole { low: 0, high: 1_000_000_000 },
                "0",
                both("Rows", "行数"),
                both(
                    "How many stay; for stratified, of each value. 0 to go by percent.",
                    "保留多少；分层时为每个值多少。0 表示按百分比。",
                ),
            ),
            field(
                "percent",
                Real { low: 0.0, high: 100.0 },
                "100",
                both("Percent", "百分比"),
                both("How many stay where rows is 0.", "行数为 0 时保留的百分比。"),
            ),
            field(
                "by",
                Text,
                "",
                both("By", "按"),
                both(
                    "The field of the strata or of the weight: its path, or language, turns.",
                    "分层或权重的字段：其路径，或 language、turns。",
                ),
            ),
            field(
                "seed",
                Whole { low: 0, high: 1_000_000_000 },
                "1",
                both("Seed", "种子"),
                both("Another seed draws other rows.", "换一个种子抽到另外的行。"),
            ),
        ],
    ),
    step(
        "convert",
        Convert,
        both("Shape", "形态"),
        both("Gives rows another shape; rows that cannot have it are dropped.", "把行变成另一种形态；变不了的去掉。"),
        &[field(
            "to",
            Choice(&["chat", "text"]),
            "chat",
            both("To", "变成"),
            both(
                "chat: of a preference the prompt with the better answer. text: all messages, one after the other.",
                "chat：偏好行取提示与较好的回答。text：所有消息依次相接。",
            ),
        )],
    ),
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
