//! What is said of batches, on the command line and on screens.
use super::Message;

pub(super) const MESSAGES: &[Message] = &[
    (
        "cli.no_batches",
        "there is no batch yet; hone batch run DATASET --service NAME",
        "还没有批量任务；hone batch run DATASET --service NAME",
    ),
    (
        "cli.batch_failed",
        "{n} rows failed; hone batch rows {job} --failed says why",
        "{n} 行失败；hone batch rows {job} --failed 说明原因",
    ),
    (
        "cli.batch_counts",
        "{answered} answered, {failed} failed of {rows}",
        "共 {rows} 行，{answered} 行已回答，{failed} 行失败",
    ),
    ("cli.batch_tokens", "{prompt} of prompts, {completion} of answers", "提示 {prompt}，回答 {completion}"),
    ("cli.rate_now", ", {rate} tokens/s", "，每秒 {rate} 词元"),
    ("cli.col.answered", "ANSWERED", "已回答"),
    ("cli.col.failed", "FAILED", "失败"),
    ("cli.col.tokens", "TOKENS", "词元"),
    ("cli.col.tokens_per_s", "TOKENS/S", "词元/秒"),
    (
        "cli.verb.batch",
        "Many questions through a service as one job of low priority",
        "以一个低优先级任务把许多问题交给模型服务",
    ),
    (
        "cli.verb.batch.run",
        "Send the rows of a dataset through a service, and wait for the dataset of answers",
        "让数据集的各行经过模型服务，并等待回答组成的数据集",
    ),
    ("cli.verb.batch.list", "List batches, newest first", "列出批量任务，最新的在前"),
    ("cli.verb.batch.rows", "Print what became of the rows of a batch", "输出批量任务各行的结果"),
    (
        "cli.verb.batch.run.name",
        "Name of the dataset of answers; DATASET-SERVICE by default",
        "回答数据集的名字；默认为 数据集-服务",
    ),
    ("cli.verb.batch.run.dataset", "NAME (its newest version) or NAME@NUMBER", "NAME（最新版本）或 NAME@NUMBER"),
    ("cli.verb.batch.run.service", "The service that is asked", "被请求的模型服务"),
    ("cli.verb.batch.run.rows", "At most so many rows; 0 for all", "最多这么多行；0 为全部"),
    (
        "cli.verb.batch.run.max_tokens",
        "Longest answer in tokens; 0 for as long as the context allows",
        "回答的最大词元数；0 为上下文允许的长度",
    ),
    ("cli.flag.schema", "A file with a JSON schema that each answer must keep to", "每个回答必须符合的 JSON 模式文件"),
    (
        "cli.flag.rows_at_once",
        "Rows that are asked at once; 0 for one less than the service has slots",
        "同时请求的行数；0 为服务槽位数减一",
    ),
    ("cli.verb.batch.rows.job", "A job's id, the end of it, or `last`", "任务编号、其末尾，或 `last`"),
    (
        "cli.verb.batch.rows.failed",
        "Rows that failed, with the reason, instead of those with answers",
        "失败的行及原因，而非有回答的行",
    ),
    ("cli.verb.batch.rows.from", "From this row on", "从这一行开始"),
    // -- how many clients a service carries
    ("cli.bench_clients", "{n} clients…", "{n} 个客户端…"),
    (
        "cli.bench_carries",
        "{service} carries {n} clients at first token ≤ {ms} ms (95 of 100) and ≥ {rate} tokens/s each, with {input} tokens in and {output} out",
        "{service} 可承载 {n} 个客户端：首词元 ≤ {ms} 毫秒（100 次中 95 次），每个 ≥ {rate} 词元/秒，输入 {input} 词元，输出 {output} 词元",
    ),
    (
        "cli.bench_carries_none",
        "{service} carries {n} clients at first token ≤ {ms} ms (95 of 100) and ≥ {rate} tokens/s each, with {input} tokens in and {output} out; raise --first-token-ms or lower --tokens-per-s",
        "{service} 可承载 {n} 个客户端：首词元 ≤ {ms} 毫秒（100 次中 95 次），每个 ≥ {rate} 词元/秒，输入 {input} 词元，输出 {output} 词元；请提高 --first-token-ms 或降低 --tokens-per-s",
    ),
    (
        "cli.bench_beside",
        "other work ran beside it, so these figures are lower than they could be: {what}",
        "期间有其他工作在运行，因此这些数字偏低：{what}",
    ),
    ("cli.col.clients", "CLIENTS", "客户端"),
    ("cli.col.slowest", "SLOWEST TOK/S", "最慢 词元/秒"),
    ("cli.col.first_p50", "FIRST P50 MS", "首词元 P50 毫秒"),
    ("cli.col.first_p95", "FIRST P95 MS", "首词元 P95 毫秒"),
    ("cli.col.between_p50", "BETWEEN P50 MS", "间隔 P50 毫秒"),
    ("cli.col.between_p95", "BETWEEN P95 MS", "间隔 P95 毫秒"),
    (
        "cli.verb.service.bench",
        "Measure how many clients a service carries at once",
        "测量模型服务能同时承载多少客户端",
    ),
    ("cli.flag.clients", "Most clients at once", "同时的最多客户端数"),
    ("cli.flag.input_tokens", "Tokens of each prompt", "每个提示的词元数"),
    ("cli.flag.output_tokens", "Tokens of each answer", "每个回答的词元数"),
    ("cli.flag.rounds", "Requests of each client, one after the other", "每个客户端依次发出的请求数"),
    (
        "cli.flag.first_token_ms",
        "Milliseconds within which the first token must come, for 95 of 100 requests",
        "首词元须在多少毫秒内到达（100 个请求中的 95 个）",
    ),
    ("cli.flag.tokens_per_s", "Tokens per second that the slowest client must get", "最慢的客户端须得到的每秒词元数"),
    (
        "cli.verb.service.bench.app",
        "The application that asks and pays; made if it is not there",
        "发出请求并付费的应用；不存在则创建",
    ),
    // -- the form of the Datasets screen
    ("datasets.through", "through a service", "经过服务"),
    (
        "field.batch_dataset.about",
        "Whose rows are sent; of a chat everything before its last answer. NAME@NUMBER is an older version.",
        "发送哪个数据集的行；对话发送最后一个回答之前的全部内容。NAME@NUMBER 为旧版本。",
    ),
    (
        "field.batch_service.about",
        "Who answers. Whoever waits for an answer of it goes first.",
        "由谁回答。等待其回答的人总是优先。",
    ),
    (
        "field.batch_system.about",
        "Said first, in the place of a row's own system message; empty keeps that.",
        "最先说的话，取代行自带的系统消息；留空则保留原有的。",
    ),
    (
        "field.batch_tokens.about",
        "Longest answer in tokens; 0 for as long as the context allows. What is longer is cut.",
        "回答的最大词元数；0 为上下文允许的长度。更长的会被截断。",
    ),
    ("field.batch_rows.about", "Rows that are sent, from the first; 0 for all.", "发送的行数，从第一行起；0 为全部。"),
    (
        "field.batch_payer.about",
        "The application that pays. Its limits and budget hold; a spent budget stops the job until there is one again.",
        "付费的应用。其限额与预算有效；预算用尽时任务停止，直到再有预算。",
    ),
    // -- the Jobs screen
    ("batch.from", "from", "来自"),
    ("batch.to", "to", "到"),
    ("batch.payer", "paid by", "付费"),
    ("batch.answered", "answered", "已回答"),
    ("batch.failed", "failed", "失败"),
    ("batch.tokens", "tokens in + out", "词元 入 + 出"),
];
