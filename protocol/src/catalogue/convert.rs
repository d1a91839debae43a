//! What merging, quantising and exporting say on the command line and on screens.
use super::Message;

pub(super) const MESSAGES: &[Message] = &[
    ("cli.col.parent", "MADE FROM", "来自"),
    ("models.parent", "made from", "由此得到"),
    ("cli.col.receipt", "RECEIPT", "质量凭据"),
    (
        "cli.receipt",
        "perplexity {here} (before {before}), mean KL {kl}, same greedy token {same}, over {tokens} tokens of {rows} rows of {dataset}",
        "困惑度 {here}（此前 {before}），平均 KL {kl}，贪心词元相同 {same}，共 {dataset} 的 {rows} 行、{tokens} 个词元",
    ),
    (
        "cli.flag.receipt_rows",
        "Measure the result against what it was made from on the first 64 rows of this dataset",
        "在该数据集的前 64 行上与来源对比测量结果",
    ),
    (
        "cli.verb.model.merge",
        "Add an adapter to the weights of its base; the result is a version that needs no adapter",
        "把适配器并入其基础权重；得到的版本不再需要适配器",
    ),
    (
        "cli.verb.model.merge.model",
        "The adapter: NAME, NAME@NUMBER or NAME:ALIAS",
        "适配器：名称、名称@编号或名称:别名",
    ),
    ("cli.verb.model.merge.weights", "How the result is stored", "结果的存储格式"),
    (
        "cli.verb.model.merge.name",
        "Name of the model that gets the version [default: the adapter's own]",
        "得到该版本的模型名称 [默认：适配器自己的]",
    ),
    (
        "cli.verb.model.quantize",
        "Store a model in fewer bits, by llama.cpp's own quantiser",
        "用 llama.cpp 自己的量化程序以更少的位数存储模型",
    ),
    ("cli.verb.model.quantize.model", "The model: NAME, NAME@NUMBER or NAME:ALIAS", "模型：名称、名称@编号或名称:别名"),
    ("cli.verb.model.quantize.weights", "How the result is stored", "结果的存储格式"),
    (
        "cli.verb.model.quantize.name",
        "Name of the model that gets the version [default: its own]",
        "得到该版本的模型名称 [默认：原来的]",
    ),
    (
        "cli.verb.model.export",
        "Write a version for other programs; nothing is written over",
        "为其他程序写出一个版本；不覆盖任何文件",
    ),
    ("cli.verb.model.export.model", "The version: NAME, NAME@NUMBER or NAME:ALIAS", "版本：名称、名称@编号或名称:别名"),
    (
        "cli.verb.model.export.to",
        "Folder to make, or a file that ends in .gguf",
        "要新建的文件夹，或以 .gguf 结尾的文件",
    ),
    ("cli.verb.model.export.format", "What to write", "写出什么"),
    (
        "cli.verb.model.import.base",
        "The model that a PEFT folder was trained on: NAME, NAME@NUMBER or NAME:ALIAS",
        "PEFT 文件夹所基于的模型：名称、名称@编号或名称:别名",
    ),
];
