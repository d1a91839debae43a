//! Forms of the steps that drop rows by one measure. Data, nothing else.

use super::{OF, YES_NO, field, step};
use crate::form::FieldKind::{Choice, Real, Text, Texts, Whole};
use crate::form::both;
use crate::recipe::{Family, StepForm};

pub(super) const LENGTH: StepForm = step(
    "length",
    Family::Filter,
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
);

pub(super) const TURNS: StepForm = step(
    "turns",
    Family::Filter,
    both("Turns", "轮数"),
    both("Drops rows with too few or too many messages.", "去掉消息太少或太多的行。"),
    &[
        field(
            "min",
            Whole { low: 1, high: 10000 },
            "2",
            both("Least", "最少"),
            both("Fewer messages, the system message not counted, are dropped.", "消息（不算系统消息）更少的去掉。"),
        ),
        field(
            "max",
            Whole { low: 1, high: 10000 },
            "64",
            both("Most", "最多"),
            both("More messages are dropped.", "消息更多的去掉。"),
        ),
    ],
);

pub(super) const ROLES: StepForm = step(
    "roles",
    Family::Filter,
    both("Order of roles", "角色顺序"),
    both(
        "Drops chats whose roles are out of order: a system message that is not first, two turns of one side in a row, no user at the beginning, no answer at the end.",
        "去掉角色顺序不对的对话：系统消息不在最前、同一方连说两轮、开头不是用户、结尾不是回答。",
    ),
    &[],
);

pub(super) const ANSWER: StepForm = step(
    "answer",
    Family::Filter,
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
);

pub(super) const PHRASES: StepForm = step(
    "phrases",
    Family::Filter,
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
);

pub(super) const REGEX: StepForm = step(
    "regex",
    Family::Filter,
    both("Expression", "正则表达式"),
    both("Drops rows by a regular expression.", "按正则表达式去掉行。"),
    &[
        field(
            "pattern",
            Text,
            "",
            both("Expression", "表达式"),
            both("In the syntax of the Rust crate regex; (?i) ignores case.", "Rust regex 库的语法；(?i) 忽略大小写。"),
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
);

pub(super) const FIELD: StepForm = step(
    "field",
    Family::Filter,
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
);

pub(super) const CHARACTERS: StepForm = step(
    "characters",
    Family::Filter,
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
);
