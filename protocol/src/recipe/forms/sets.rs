//! Forms of the steps that look at all rows, and of those for private things and shapes. Data, nothing else.

use super::{OF, YES_NO, field, step};
use crate::form::FieldKind::{Choice, Real, Several, Text, Texts, Whole};
use crate::form::both;
use crate::recipe::{Family, StepForm};

pub(super) const EXACT: StepForm = step(
    "exact",
    Family::Duplicates,
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
);

pub(super) const NEAR: StepForm = step(
    "near",
    Family::Duplicates,
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
);

pub(super) const MASK: StepForm = step(
    "mask",
    Family::Privacy,
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
);

pub(super) const SECRETS: StepForm = step(
    "secrets",
    Family::Privacy,
    both("Secrets", "密钥"),
    both("Finds keys of cloud services, tokens and private keys.", "找出云服务密钥、令牌和私钥。"),
    &[field(
        "action",
        Choice(&["mask", "drop"]),
        "mask",
        both("Action", "处理"),
        both("Replace them by [SECRET], or drop the row.", "换成 [SECRET]，或去掉整行。"),
    )],
);

pub(super) const DECONTAMINATE: StepForm = step(
    "decontaminate",
    Family::Privacy,
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
            both("Datasets, name or name@number, that evaluations use.", "评测所用的数据集（名称或 名称@版本号）。"),
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
);

pub(super) const SAMPLE: StepForm = step(
    "sample",
    Family::Sample,
    both("Sample", "抽样"),
    both("Keeps some of the rows. The same seed keeps the same rows.", "只保留一部分行。种子相同，保留的行也相同。"),
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
);

pub(super) const CONVERT: StepForm = step(
    "convert",
    Family::Convert,
    both("Shape", "形态"),
    both("Gives rows another shape; rows that cannot have it are dropped.", "把行变成另一种形态；变不了的去掉。"),
    &[field(
        "to",
        Choice(&["chat", "prompt", "text"]),
        "chat",
        both("To", "变成"),
        both(
            "chat: the prompt with its answer, of a preference the better one, of a prompt what is expected. prompt: the last answer is what is expected. text: all messages, one after the other.",
            "chat：提示及其回答；偏好行取较好的回答，提示行取期望的回答。prompt：最后一个回答作为期望的回答。text：所有消息依次相接。",
        ),
    )],
);
