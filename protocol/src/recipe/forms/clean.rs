//! Forms of the steps that make text clean. Data, nothing else.

use super::{YES_NO, field, step};
use crate::form::FieldKind::{Choice, Texts, Whole};
use crate::form::both;
use crate::recipe::{Family, StepForm};

pub(super) const UNICODE: StepForm = step(
    "unicode",
    Family::Clean,
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
);

pub(super) const CONTROL: StepForm = step(
    "control",
    Family::Clean,
    both("Control characters", "控制字符"),
    both(
        "Removes characters that cannot be seen: control characters, byte order marks, zero-width and direction marks. Tabs and line ends stay.",
        "去掉看不见的字符：控制字符、字节顺序标记、零宽字符和方向标记。制表符和换行保留。",
    ),
    &[],
);

pub(super) const SPACES: StepForm = step(
    "spaces",
    Family::Clean,
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
);

pub(super) const HTML: StepForm = step(
    "html",
    Family::Clean,
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
);

pub(super) const BOILERPLATE: StepForm = step(
    "boilerplate",
    Family::Clean,
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
            both("Longer lines stay: they are text that mentions the phrase.", "更长的行保留：那是提到该说法的正文。"),
        ),
    ],
);

pub(super) const SIMPLIFIED: StepForm = step(
    "simplified",
    Family::Clean,
    both("Simplified Chinese", "转为简体"),
    both(
        "Writes traditional Chinese in simplified characters, phrases first, with the tables of OpenCC.",
        "把繁体中文写成简体，先看词再看字，用 OpenCC 的表。",
    ),
    &[],
);
