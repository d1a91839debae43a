//! Servers elsewhere: the words of their verbs, fields and states.
use super::Message;

pub(super) const MESSAGES: &[Message] = &[
    (
        "cli.verb.service.show",
        "Show a service: what answers, how it is, slots, price",
        "查看模型服务：由谁应答、状态、槽位、价格",
    ),
    (
        "cli.flag.upstream",
        "Instead of a version: an OpenAI-compatible server elsewhere",
        "代替版本：别处的 OpenAI 兼容服务器；不写路径时即 /v1",
    ),
    ("cli.flag.upstream_model", "What `model` says to the upstream", "对上游说的 `model`"),
    (
        "cli.flag.upstream_key_file",
        "File with the upstream's key; - reads it from stdin",
        "存有上游密钥的文件；- 表示从标准输入读取。不写则保留原有密钥",
    ),
    (
        "cli.flag.no_upstream_key",
        "The upstream wants no key; a kept one is forgotten",
        "上游不需要密钥；已保存的密钥将被删除",
    ),
    (
        "cli.flag.plain_http",
        "The upstream's host again, when it is plain http to another machine",
        "上游为另一台机器的明文 http 时，再写一遍其主机名：途中一切内容都可被读取",
    ),
    ("cli.upstream_ill", "published, but the upstream is not well: {why}", "已发布，但上游有问题：{why}"),
    ("cli.col.upstream", "UPSTREAM", "上游"),
    ("cli.col.upstream_model", "UPSTREAM MODEL", "上游模型"),
    ("cli.col.upstream_key", "UPSTREAM KEY", "上游密钥"),
    ("cli.col.upstream_state", "UPSTREAM STATE", "上游状态"),
    ("cli.upstream_key_kept", "kept", "已保存"),
    ("cli.upstream_no_key", "none", "无"),
    ("cli.upstream_well", "answers", "有应答"),
    ("services.upstream", "upstream", "上游"),
    ("services.upstream_key", "key of the upstream", "上游密钥"),
    ("services.upstream_key_kept", "kept, never shown", "已保存，不再显示"),
    ("services.upstream_no_key", "none", "无"),
    ("field.engine", "engine", "引擎"),
    (
        "field.engine.about",
        "What answers: a version on this machine, or an OpenAI-compatible server elsewhere (upstream), with keys, limits, prices and usage of this service.",
        "由谁应答：本机上的一个版本（version），或别处的 OpenAI 兼容服务器（upstream）；密钥、限额、价格与用量都由本服务管理。",
    ),
    ("field.upstream_url", "address", "地址"),
    (
        "field.upstream_url.about",
        "Where the server's routes begin: https://HOST/v1. Without a path, /v1 is meant.",
        "服务器路由的起点：https://HOST/v1。不写路径时即 /v1。",
    ),
    ("field.upstream_model", "model there", "上游模型"),
    ("field.upstream_model.about", "What `model` says to that server.", "对该服务器说的 `model`。"),
    ("field.upstream_key", "key there", "上游密钥"),
    (
        "field.upstream_key.about",
        "The key that the server wants. It is kept in the store and never shown again; left empty, a kept key stays. A single - forgets it.",
        "该服务器要求的密钥。保存在库中，不再显示；留空则保留原有密钥。只写一个 - 则删除。",
    ),
    ("field.plain_http", "host again", "再写主机名"),
    (
        "field.plain_http.about",
        "Only for plain http to another machine, where everything can be read on the way: the host once more, to have it so.",
        "仅用于另一台机器的明文 http（途中一切内容都可被读取）：再写一遍主机名，以示同意。",
    ),
];
