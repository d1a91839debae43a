//! Words about rows that come in, are looked through, and go out.

use super::Message;

pub(super) const MESSAGES: &[Message] = &[
    ("cli.verb.dataset.preview", "Show what an import would do, without doing it", "显示导入会得到什么，但不导入"),
    (
        "cli.verb.dataset.export",
        "Write the rows into a file that other programs read",
        "把数据行写成其他程序可读的文件",
    ),
    ("cli.flag.map", "What a field becomes: FIELD=ROLE, once for each field", "字段的作用：字段=角色，每个字段一次"),
    ("cli.flag.contains", "Only rows with a message that has this text in it", "仅含有此文字的消息所在的行"),
    ("cli.flag.ignore_case", "Take capital and small letters for the same", "不区分大小写"),
    ("cli.flag.role", "Only messages of this role", "仅此角色的消息"),
    ("cli.flag.min_characters", "Only messages of at least so many characters", "仅至少这么多字符的消息"),
    ("cli.flag.max_characters", "Only messages of at most so many characters", "仅至多这么多字符的消息"),
    ("cli.verb.dataset.preview.count", "Rows to print", "输出的行数"),
    ("cli.verb.dataset.preview.path", "The path of a file or folder", "文件或文件夹路径"),
    ("cli.verb.dataset.export.path", "The file to write", "要写入的文件"),
    ("cli.col.fields", "fields", "字段"),
    ("cli.col.mapping", "mapping", "映射"),
    (
        "cli.preview_whole",
        "the whole file: read {read} = kept {kept} + rejected {rejected}",
        "整个文件：读取 {read} = 保留 {kept} + 拒绝 {rejected}",
    ),
    (
        "cli.preview_part",
        "the first rows: read {read} = kept {kept} + rejected {rejected}",
        "前若干行：读取 {read} = 保留 {kept} + 拒绝 {rejected}",
    ),
    ("cli.exported_rows", "{n} rows in {path}", "{n} 行已写入 {path}"),
    ("datasets.preview", "what would become of it", "导入预览"),
    ("datasets.previewing", "looking at the file ...", "正在查看文件……"),
    ("datasets.preview_whole", "the whole file", "整个文件"),
    ("datasets.preview_part", "the first rows", "前若干行"),
    ("datasets.fields", "fields", "字段"),
    ("datasets.mapping", "mapping", "映射"),
    ("datasets.search", "search", "搜索"),
    ("datasets.searching", "Search: {text}", "搜索：{text}"),
    ("datasets.found", "row {at} of {total} with {text}", "第 {at} 行，共 {total} 行含有 {text}"),
    ("datasets.found_none", "no row has {text} in it", "没有任何行含有 {text}"),
    (
        "field.data_map.about",
        "What fields become, where a file has fields of its own: question=user answer=assistant. Empty: what the format says.",
        "文件使用自有字段时各字段的作用：question=user answer=assistant。留空则按格式。",
    ),
    ("field.map", "Mapping", "映射"),
];
