//! The training form as static data: used by the screens, `--help` and the docs alike, so that a field is
//! described once. Never here: drawing, or the meaning of a value beyond its range.

use crate::dataset::Shape;
use crate::train::{Method, RISE_MAX, SAMPLE_PROMPT_BYTES_MAX, SAMPLES_MAX, TrainParams, TrainSpec, Tuning};

/// Which part of the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartOfForm {
    /// Name, base, method.
    Basics,
    /// How.
    Training,
    /// Rows.
    Data,
    /// What to make of the result.
    Register,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FieldKind {
    /// A name to type or choose.
    Text,
    /// A whole number within bounds.
    Whole {
        /// Lowest.
        low: u64,
        /// Highest.
        high: u64,
    },
    /// A number within bounds, stepped by a factor.
    Real {
        /// Lowest.
        low: f64,
        /// Highest.
        high: f64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any of these words, separated by commas.
    Several(&'static [&'static str]),
    /// Texts, separated by [`BETWEEN_TEXTS`]; a list in run files.
    Texts {
        /// Most of them.
        most: usize,
    },
}

impl FieldKind {
    /// Whether it is typed freely: it belongs to a run, not to a way of training.
    pub fn is_text(self) -> bool {
        matches!(self, FieldKind::Text | FieldKind::Texts { .. })
    }
}

/// What stands between the texts of one field.
pub const BETWEEN_TEXTS: &str = " | ";

/// The texts of a field; what is empty is none.
pub fn texts(written: &str) -> Vec<String> {
    written.split(BETWEEN_TEXTS.trim()).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

/// Texts in both languages: English, Chinese.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Both {
    /// English.
    pub en: &'static str,
    /// Simplified Chinese.
    pub zh: &'static str,
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Key in run files and on the command line.
    pub key: &'static str,
    /// Where it stands.
    pub part: PartOfForm,
    /// What it holds.
    pub kind: FieldKind,
    /// Its label.
    pub label: Both,
    /// What it is, in one sentence.
    pub about: Both,
    /// What too low does.
    pub too_low: Both,
    /// What too high does.
    pub too_high: Both,
    /// The default, as it is typed.
    pub default: &'static str,
    /// It means something only where each of these other fields has one of its values.
    pub only: &'static [(&'static str, &'static [&'static str])],
}

impl Field {
    /// Whether it means something beside the values of other fields.
    pub fn concerns<'v>(&self, value_of: impl Fn(&str) -> &'v str) -> bool {
        self.only.iter().all(|(key, values)| values.contains(&value_of(key)))
    }
}

const fn both(en: &'static str, zh: &'static str) -> Both {
    Both { en, zh }
}
const NONE: Both = both("", "");

/// Most compute threads that a run may ask for; it has no field in the form, 0 being right but for experiments.
pub const THREADS_MAX: u32 = 256;

/// All fields, in the order of the form.
pub const TRAIN_FORM: &[Field] = &[
    Field {
        key: "base",
        part: PartOfForm::Basics,
        kind: FieldKind::Text,
        label: both("base model", "基础模型"),
        about: both(
            "The model version that the run begins from; it stays as it is.",
            "训练所基于的模型版本；它本身不会被改动。",
        ),
        too_low: NONE,
        too_high: NONE,
        default: "",
        only: &[],
    },
    Field {
        key: "method",
        part: PartOfForm::Basics,
        kind: FieldKind::Choice(&["sft", "pretrain", "dpo", "orpo"]),
        label: both("method", "方法"),
        about: both(
            "sft learns the assistant's turns of chats, pretrain every token of texts, dpo and orpo to prefer chosen over rejected answers.",
            "sft 学习对话中助手的发言，pretrain 学习文本的每个词元，dpo 和 orpo 学习偏好被选中的回答。",
        ),
        too_low: NONE,
        too_high: NONE,
        default: "sft",
        only: &[],
    },
    Field {
        key: "tuning",
        part: PartOfForm::Basics,
        kind: FieldKind::Choice(&["lora", "full"]),
        label: both("tuning", "训练范围"),
        about: both(
            "lora trains an adapter beside the base; full trains every value and makes a model of its own, in 24 bytes a value.",
            "lora 在基础模型旁训练适配器；full 训练全部参数并得到独立的模型，每个参数占用 24 字节。",
        ),
        too_low: NONE,
        too_high: NONE,
        default: "lora",
        only: &[("method", &["sft", "pretrain"])],
    },
    Field {
        key: "beta",
        part: PartOfForm::Basics,
        kind: FieldKind::Real { low: 0.001, high: 10.0 },
        label: both("beta", "beta"),
        about: both(
            "dpo: how closely the run keeps to the base; orpo: weight of the preference beside learning the chosen answers.",
            "dpo：与基础模型保持多近；orpo：偏好相对于学习被选回答的权重。",
        ),
        too_low: both(
            "dpo wanders off and answers degrade; orpo hardly prefers",
            "dpo 偏离过远，回答变差；orpo 几乎没有偏好",
        ),
        too_high: both("dpo hardly moves; orpo unlearns speech", "dpo 几乎不动；orpo 会损害表达"),
        default: "0.1",
        only: &[("method", &["dpo", "orpo"])],
    },
    Field {
        key: "rank",
        part: PartOfForm::Training,
        kind: FieldKind::Whole { low: 1, high: 256 },
        label: both("LoRA rank", "LoRA 秩"),
        about: both("How much the adapter can hold; 8 to 32 fits most work.", "适配器的容量；8 到 32 适合大多数任务。"),
        too_low: both("cannot take on the style or facts", "学不会风格或事实"),
        too_high: both("more memory and time, and it learns rows by heart", "占用更多内存和时间，并且会死记各行"),
        default: "8",
        only: &[("tuning", &["lora"])],
    },
    Field {
        key: "alpha",
        part: PartOfForm::Training,
        kind: FieldKind::Real { low: 0.5, high: 1024.0 },
        label: both("LoRA alpha", "LoRA alpha"),
        about: both(
            "Strength of the adapter; the scale is alpha / rank, and twice the rank is usual.",
            "适配器的强度；缩放系数为 alpha / 秩，通常取秩的两倍。",
        ),
        too_low: both("the adapter hardly speaks", "适配器几乎不起作用"),
        too_high: both("answers fall apart", "回答会变得混乱"),
        default: "16",
        only: &[("tuning", &["lora"])],
    },
    Field {
        key: "scaling",
        part: PartOfForm::Training,
        kind: FieldKind::Choice(&["rank", "root_rank"]),
        label: both("scaling", "缩放方式"),
        about: both(
            "What alpha is divided by: the rank, or its root (rsLoRA), with which high ranks learn as fast as low ones.",
            "alpha 除以什么：秩，或秩的平方根（rsLoRA），后者使高秩与低秩学得一样快。",
        ),
        too_low: NONE,
        too_high: NONE,
        default: "rank",
        only: &[("tuning", &["lora"])],
    },
    Field {
        key: "dropout",
        part: PartOfForm::Training,
        kind: FieldKind::Real { low: 0.0, high: 0.9 },
        label: both("dropout", "dropout"),
        about: both(
            "Share of the adapters' input that is dropped at each step; 0.05 to 0.1 slows learning by heart on small sets.",
            "每步丢弃的适配器输入比例；小数据集上 0.05 到 0.1 可减缓死记。",
        ),
        too_low: both("none is fine for most sets", "多数数据集不用也可以"),
        too_high: both("learning becomes slow", "学习变慢"),
        default: "0",
        only: &[("method", &["sft", "pretrain"]), ("tuning", &["lora"])],
    },
    Field {
        key: "targets",
        part: PartOfForm::Training,
        kind: FieldKind::Several(&["q", "k", "v", "o", "gate", "up", "down"]),
        label: both("targets", "目标矩阵"),
        about: both(
            "Which matrices of each block get an adapter; all seven is usual.",
            "每个块中哪些矩阵带适配器；通常七个全选。",
        ),
        too_low: both("learns less", "学到的更少"),
        too_high: both("all is the most there is", "全选即为上限"),
        default: "q,k,v,o,gate,up,down",
        only: &[("tuning", &["lora"])],
    },
    Field {
        key: "learning_rate",
        part: PartOfForm::Training,
        kind: FieldKind::Real { low: 1e-6, high: 1e-2 },
        label: both("learning rate", "学习率"),
        about: both(
            "How big each correction is; 1e-4 to 5e-4 is usual for LoRA, small models take up to 2e-3.",
            "每次修正的幅度；LoRA 常用 1e-4 到 5e-4，小模型可到 2e-3。",
        ),
        too_low: both("the loss hardly moves", "损失几乎不动"),
        too_high: both("the loss jumps or becomes NaN", "损失跳动或变成 NaN"),
        default: "2e-4",
        only: &[],
    },
    Field {
        key: "schedule",
        part: PartOfForm::Training,
        kind: FieldKind::Choice(&["linear", "cosine", "constant", "wsd"]),
        label: both("schedule", "学习率调度"),
        about: both(
            "How the rate fades after the warm-up; wsd keeps it until the last part of the run.",
            "预热之后学习率如何衰减；wsd 一直保持到最后一段。",
        ),
        too_low: NONE,
        too_high: NONE,
        default: "cosine",
        only: &[],
    },
    Field {
        key: "warmup_ratio",
        part: PartOfForm::Training,
        kind: FieldKind::Real { low: 0.0, high: 0.5 },
        label: both("warm-up", "预热比例"),
        about: both("Share of the steps over which the rate rises from zero.", "学习率从零升起所占的步数比例。"),
        too_low: both("the first steps may do harm", "最初几步可能有害"),
        too_high: both("little time is left at the full rate", "留给全速训练的时间太少"),
        default: "0.05",
        only: &[],
    },
    Field {
        key: "decay_ratio",
        part: PartOfForm::Training,
        kind: FieldKind::Real { low: 0.01, high: 1.0 },
        label: both("decay part", "衰减比例"),
        about: both(
            "With the schedule wsd: share of the steps, at the end, over which the rate falls to zero.",
            "使用 wsd 调度时：末尾学习率降到零所占的步数比例。",
        ),
        too_low: both("the rate drops at once", "学习率骤降"),
        too_high: both("no stable part is left", "没有稳定阶段"),
        default: "0.2",
        only: &[],
    },
    Field {
        key: "epochs",
        part: PartOfForm::Training,
        kind: FieldKind::Whole { low: 1, high: 1000 },
        label: both("epochs", "轮数"),
        about: both("Full passes over the rows; 1 to 3 is usual.", "对全部行的完整遍历次数；通常 1 到 3。"),
        too_low: both("not learnt yet", "还没学会"),
        too_high: both("rows are learnt by heart", "会死记各行"),
        default: "2",
        only: &[],
    },
    Field {
        key: "steps_max",
        part: PartOfForm::Training,
        kind: FieldKind::Whole { low: 0, high: 10_000_000 },
        label: both("most steps", "最多步数"),
        about: both(
            "Stop after this many updates, whatever the epochs say; 0 for no limit.",
            "到此更新次数即停，不论轮数；0 表示不限。",
        ),
        too_low: both("stops before it has learnt", "没学会就停了"),
        too_high: both("the epochs decide", "由轮数决定"),
        default: "0",
        only: &[],
    },
    Field {
        key: "sequence_tokens",
        part: PartOfForm::Training,
        kind: FieldKind::Whole { low: 32, high: 32_768 },
        label: both("window", "窗口长度"),
        about: both(
            "Length of a window in tokens; short rows are packed into it side by side.",
            "窗口的词元长度；短行会并排装入。",
        ),
        too_low: both("longer rows are left out or cut", "较长的行会被舍弃或截断"),
        too_high: both("memory and time grow", "内存和时间增加"),
        default: "512",
        only: &[],
    },
    Field {
        key: "too_long",
        part: PartOfForm::Training,
        kind: FieldKind::Choice(&["leave_out", "cut"]),
        label: both("longer rows", "超长行"),
        about: both(
            "What happens to rows longer than the window; either way they are counted.",
            "超过窗口的行如何处理；两种方式都会计数。",
        ),
        too_low: NONE,
        too_high: NONE,
        default: "leave_out",
        only: &[],
    },
    Field {
        key: "batch_windows",
        part: PartOfForm::Training,
        kind: FieldKind::Whole { low: 1, high: 256 },
        label: both("batch", "批大小"),
        about: both(
            "Windows in one pass; the first thing to lower when memory runs out.",
            "一次前向的窗口数；内存不足时首先调低。",
        ),
        too_low: both("noisy steps", "每步噪声大"),
        too_high: both("memory runs out", "内存不足"),
        default: "1",
        only: &[],
    },
    Field {
        key: "accumulation",
        part: PartOfForm::Training,
        kind: FieldKind::Whole { low: 1, high: 256 },
        label: both("accumulation", "梯度累积"),
        about: both(
            "Passes before one update: a bigger batch in the same memory.",
            "一次更新前的前向次数：同样内存下更大的批。",
        ),
        too_low: both("noisy steps", "每步噪声大"),
        too_high: both("fewer updates", "更新次数变少"),
        default: "1",
        only: &[],
    },
    Field {
        key: "weight_decay",
        part: PartOfForm::Training,
        kind: FieldKind::Real { low: 0.0, high: 1.0 },
        label: both("weight decay", "权重衰减"),
        about: both(
            "Pulls the adapter's weights towards zero; a mild brake on learning by heart.",
            "把适配器权重拉向零；轻微抑制死记。",
        ),
        too_low: both("none is fine for short runs", "短训练不用也可以"),
        too_high: both("nothing is kept", "什么也留不住"),
        default: "0",
        only: &[],
    },
    Field {
        key: "clip_norm",
        part: PartOfForm::Training,
        kind: FieldKind::Real { low: 0.0, high: 1000.0 },
        label: both("clip", "梯度裁剪"),
        about: both("Caps what one bad batch can do; 0 for no cap.", "限制一个坏批次的影响；0 表示不限。"),
        too_low: both("learning slows down", "学习变慢"),
        too_high: both("no protection", "没有保护"),
        default: "1",
        only: &[],
    },
    Field {
        key: "seed",
        part: PartOfForm::Training,
        kind: FieldKind::Whole { low: 0, high: u64::MAX },
        label: both("seed", "随机种子"),
        about: both(
            "Same seed, same machine and threads: the same run, bit by bit.",
            "相同的种子、机器和线程数：逐位相同的运行。",
        ),
        too_low: NONE,
        too_high: NONE,
        default: "42",
        only: &[],
    },
    Field {
        key: "dataset",
        part: PartOfForm::Data,
        kind: FieldKind::Text,
        label: both("dataset", "数据集"),
        about: both(
            "The rows to train on: chats for sft, texts for pretrain, preference pairs for dpo and orpo.",
            "用于训练的行：sft 用对话，pretrain 用文本，dpo 和 orpo 用偏好对。",
        ),
        too_low: NONE,
        too_high: NONE,
        default: "",
        only: &[],
    },
    Field {
        key: "replay",
        part: PartOfForm::Data,
        kind: FieldKind::Text,
        label: both("mixed in", "混入数据"),
        about: both(
            "A general dataset of chats or texts, rows of which are mixed in so that what the base could do is not forgotten; empty for none.",
            "混入其行的通用对话或文本数据集，使模型不忘记原有能力；留空表示不混入。",
        ),
        too_low: NONE,
        too_high: NONE,
        default: "",
        only: &[("method", &["sft", "pretrain"])],
    },
    Field {
        key: "replay_percent",
        part: PartOfForm::Data,
        kind: FieldKind::Whole { low: 1, high: 100 },
        label: both("mixed-in share", "混入比例"),
        about: both(
            "How many rows are mixed in, as percent of the rows of the dataset.",
            "混入多少行，占数据集行数的百分比。",
        ),
        too_low: both("more is forgotten", "遗忘更多"),
        too_high: both("less is learnt of the dataset", "对数据集学得更少"),
        default: "10",
        only: &[("method", &["sft", "pretrain"])],
    },
    Field {
        key: "held_out_percent",
        part: PartOfForm::Data,
        kind: FieldKind::Whole { low: 0, high: 90 },
        label: both("held out", "留出比例"),
        about: both(
            "Percent of the rows, chosen by id, that no training batch sees.",
            "按编号留出、训练看不到的行的百分比。",
        ),
        too_low: both("nothing to measure with", "没有可用于衡量的行"),
        too_high: both("little to learn from", "可学的行太少"),
        default: "15",
        only: &[],
    },
    Field {
        key: "evaluate_steps",
        part: PartOfForm::Data,
        kind: FieldKind::Whole { low: 0, high: 1_000_000 },
        label: both("evaluate every", "评测间隔"),
        about: both("Steps between looks at the held-out loss; 0 for none.", "每隔多少步查看留出集损失；0 表示不看。"),
        too_low: both("time goes into measuring", "时间都花在测量上"),
        too_high: both("overfitting is seen late", "过拟合发现得晚"),
        default: "0",
        only: &[],
    },
    Field {
        key: "patience",
        part: PartOfForm::Data,
        kind: FieldKind::Whole { low: 0, high: 1000 },
        label: both("patience", "耐心"),
        about: both(
            "Looks at the held-out loss without a new low after which the run ends and keeps its best state; 0 for never.",
            "留出集损失连续多少次未创新低后结束，并保留最佳状态；0 表示不提前结束。",
        ),
        too_low: both("a chance rise ends the run", "一次偶然上升就会结束"),
        too_high: both("overfitting goes on", "继续过拟合"),
        default: "0",
        only: &[],
    },
    Field {
        key: "samples",
        part: PartOfForm::Data,
        kind: FieldKind::Texts { most: SAMPLES_MAX },
        label: both("sample prompts", "采样提示"),
        about: both(
            "Prompts, separated by |, that the run answers at each evaluation, to be read beside the curve; empty for none.",
            "以 | 分隔的提示，训练在每次评测时作答，可在曲线旁查看；留空表示不采样。",
        ),
        too_low: NONE,
        too_high: both("each evaluation takes longer", "每次评测耗时更长"),
        default: "",
        only: &[],
    },
    Field {
        key: "rise_max",
        part: PartOfForm::Data,
        kind: FieldKind::Real { low: 0.1, high: 100.0 },
        label: both("loss rise", "损失上升"),
        about: both(
            "Nats by which the mean loss of twenty steps may lie above its lowest before the run is ended as diverged.",
            "二十步平均损失最多可比最低值高出多少奈特；超过即视为发散并结束。",
        ),
        too_low: both("hard rows end the run", "较难的行会结束训练"),
        too_high: both("a broken run goes on", "已损坏的训练继续进行"),
        default: "3",
        only: &[],
    },
    Field {
        key: "checkpoint_steps",
        part: PartOfForm::Register,
        kind: FieldKind::Whole { low: 0, high: 1_000_000 },
        label: both("checkpoint every", "检查点间隔"),
        about: both("Steps between checkpoints; 0 for every five minutes.", "每隔多少步保存检查点；0 表示每五分钟。"),
        too_low: both("time goes into saving", "时间都花在保存上"),
        too_high: both("more work is lost in a crash", "崩溃时损失更多"),
        default: "0",
        only: &[],
    },
    Field {
        key: "model",
        part: PartOfForm::Register,
        kind: FieldKind::Text,
        label: both("register as", "登记为"),
        about: both(
            "Name of the model that gets the new version; empty for not yet.",
            "新版本所属的模型名；留空表示暂不登记。",
        ),
        too_low: NONE,
        too_high: NONE,
        default: "",
        only: &[],
    },
    Field {
        key: "publish",
        part: PartOfForm::Register,
        kind: FieldKind::Text,
        label: both("then publish", "随后发布"),
        about: both(
            "Name of a service to publish the new version as; empty for no.",
            "把新版本发布成的服务名；留空表示不发布。",
        ),
        too_low: NONE,
        too_high: NONE,
        default: "",
        only: &[],
    },
];

/// Models with fewer weights take higher rates.
pub const SMALL_PARAMETERS: u64 = 500_000_000;

/// A default that depends on what is trained.
#[derive(Debug, Clone, Copy)]
pub struct DefaultFor {
    /// The field.
    pub key: &'static str,
    /// For these methods.
    pub methods: &'static [Method],
    /// For this tuning.
    pub tuning: Tuning,
    /// For models below [`SMALL_PARAMETERS`], or for the others; `None` for all.
    pub small: Option<bool>,
    /// The default, as it is typed.
    pub value: &'static str,
}

const fn default_if(
    key: &'static str,
    methods: &'static [Method],
    tuning: Tuning,
    small: Option<bool>,
    value: &'static str,
) -> DefaultFor {
    DefaultFor { key, methods, tuning, small, value }
}

/// Defaults that differ from a field's own; the first that fits counts. Pairs move a model faster than answers do, all of its
/// values faster than an adapter's.
pub const DEFAULTS: &[DefaultFor] = &[
    default_if("learning_rate", &[Method::Sft, Method::Pretrain], Tuning::Full, Some(true), "1e-4"),
    default_if("learning_rate", &[Method::Sft, Method::Pretrain], Tuning::Full, None, "2e-5"),
    default_if("learning_rate", &[Method::Sft], Tuning::Lora, Some(true), "1e-3"),
    default_if("learning_rate", &[Method::Pretrain], Tuning::Lora, Some(true), "5e-4"),
    default_if("learning_rate", &[Method::Dpo, Method::Orpo], Tuning::Lora, Some(true), "2e-4"),
    default_if("learning_rate", &[Method::Dpo, Method::Orpo], Tuning::Lora, None, "5e-5"),
    default_if("epochs", &[Method::Pretrain, Method::Dpo, Method::Orpo], Tuning::Lora, None, "1"),
    default_if("epochs", &[Method::Pretrain], Tuning::Full, None, "1"),
];

/// The default of a field for a method, a tuning and a model of so many weights, as far as that is known.
pub fn default_for(field: &Field, method: Method, tuning: Tuning, parameters: Option<u64>) -> &'static str {
    let small = parameters.map(|parameters| parameters < SMALL_PARAMETERS);
    let fits = |other: &&DefaultFor| {
        other.key == field.key
            && other.methods.contains(&method)
            && other.tuning == tuning
            && (other.small.is_none() || other.small == small)
    };
    DEFAULTS.iter().find(fits).map_or(field.default, |other| other.value)
}

/// Methods that people know and hone does not have, with what to do instead.
pub const ABSENT_METHODS: &[(&str, Both)] = &[
    (
        "grpo",
        both(
            "grpo scores answers while it trains, which is not there; with pairs of answers dpo or orpo learns preferences",
            "grpo 在训练中给回答打分，目前没有；有成对回答时可用 dpo 或 orpo 学习偏好",
        ),
    ),
    (
        "ppo",
        both(
            "ppo scores answers while it trains, which is not there; with pairs of answers dpo or orpo learns preferences",
            "ppo 在训练中给回答打分，目前没有；有成对回答时可用 dpo 或 orpo 学习偏好",
        ),
    ),
    (
        "kto",
        both(
            "kto learns from single judged answers, which is not there; with pairs of answers dpo or orpo learns preferences",
            "kto 从单个已评判的回答学习，目前没有；有成对回答时可用 dpo 或 orpo 学习偏好",
        ),
    ),
    (
        "vision",
        both(
            "training on pictures is not there; texts, chats and preferences are",
            "不能用图片训练；可用文本、对话和偏好",
        ),
    ),
    (
        "audio",
        both(
            "training on sound is not there; texts, chats and preferences are",
            "不能用声音训练；可用文本、对话和偏好",
        ),
    ),
];

/// The field of a key.
pub fn field(key: &str) -> Option<&'static Field> {
    TRAIN_FORM.iter().find(|f| f.key == key)
}

/// Checks a run's numbers against the form's ranges. Returns the key and an English sentence for the first that
/// is outside.
pub fn check(params: &TrainParams) -> Result<(), (&'static str, String)> {
    let values: [(&'static str, f64); 19] = [
        ("dropout", f64::from(params.dropout)),
        ("beta", f64::from(params.beta)),
        ("decay_ratio", f64::from(params.decay_ratio)),
        ("patience", f64::from(params.patience)),
        ("rank", f64::from(params.rank)),
        ("alpha", f64::from(params.alpha)),
        ("learning_rate", f64::from(params.learning_rate)),
        ("warmup_ratio", f64::from(params.warmup_ratio)),
        ("epochs", f64::from(params.epochs)),
        ("steps_max", params.steps_max as f64),
        ("sequence_tokens", f64::from(params.sequence_tokens)),
        ("batch_windows", f64::from(params.batch_windows)),
        ("accumulation", f64::from(params.accumulation)),
        ("weight_decay", f64::from(params.weight_decay)),
        ("clip_norm", f64::from(params.clip_norm)),
        ("evaluate_steps", params.evaluate_steps as f64),
        ("checkpoint_steps", params.checkpoint_steps as f64),
        ("seed", params.seed as f64),
        ("rise_max", f64::from(params.rise_max.unwrap_or(RISE_MAX))),
    ];
    for (key, value) in values {
        let (low, high) = match field(key).map(|f| f.kind) {
            Some(FieldKind::Whole { low, high }) => (low as f64, high as f64),
            // One part in a million of slack: f32 cannot hold 1e-2 exactly.
            Some(FieldKind::Real { low, high }) => (low * (1.0 - 1e-6), high * (1.0 + 1e-6)),
            _ => continue,
        };
        if !(low..=high).contains(&value) {
            return Err((key, format!("{key} is {value}; it must be between {low} and {high}")));
        }
    }
    if params.threads > THREADS_MAX {
        return Err(("threads", format!("threads is {}; it must be between 0 and {THREADS_MAX}", params.threads)));
    }
    let pairs = params.method.shape() == Shape::Preference;
    if params.tuning == Tuning::Full && pairs {
        return Err(("tuning", format!("{} trains adapters: the base must stay beside the run", params.method.word())));
    }
    if params.dropout > 0.0 && pairs {
        return Err((
            "dropout",
            format!("dropout must be 0 for {}: it would blur what is compared", params.method.word()),
        ));
    }
    if params.dropout > 0.0 && params.tuning == Tuning::Full {
        return Err(("dropout", "dropout is of adapters; it must be 0 where the whole model is trained".into()));
    }
    if params.patience > 0 && params.evaluate_steps == 0 {
        return Err(("patience", "patience counts looks at the held-out loss; set evaluate_steps above 0".into()));
    }
    if params.targets.is_empty() {
        return Err(("targets", "targets is empty; name at least one matrix".into()));
    }
    Ok(())
}

/// Checks the prompts that a run answers at its evaluations, as [`check`] does the numbers.
pub fn check_samples(spec: &TrainSpec) -> Result<(), (&'static str, String)> {
    let Some(samples) = &spec.samples else { return Ok(()) };
    let wrong = |message: String| Err(("samples", message));
    if !(1..=SAMPLES_MAX).contains(&samples.len()) {
        return wrong(format!("there are {} sample prompts; 1 to {SAMPLES_MAX} can be answered", samples.len()));
    }
    for (at, prompt) in samples.iter().enumerate() {
        if prompt.trim().is_empty() || prompt.len() > SAMPLE_PROMPT_BYTES_MAX {
            return wrong(format!(
                "sample prompt {} has {} bytes; it must have 1 to {SAMPLE_PROMPT_BYTES_MAX}",
                at + 1,
                prompt.trim().len()
            ));
        }
    }
    if spec.params.evaluate_steps == 0 {
        return wrong("sample prompts are answered at evaluations; set evaluate_steps above 0".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_inside_their_ranges_and_agree_with_the_form() {
        let params = TrainParams::default();
        assert_eq!(check(&params), Ok(()));
        for (key, value) in
            [("rank", params.rank), ("epochs", params.epochs), ("sequence_tokens", params.sequence_tokens)]
        {
            assert_eq!(field(key).unwrap().default, value.to_string(), "{key}");
        }
        let refused = |params: &TrainParams| check(params).unwrap_err().0;
        assert_eq!(refused(&TrainParams { learning_rate: 0.5, ..params.clone() }), "learning_rate");
        assert_eq!(refused(&TrainParams { threads: 257, ..params.clone() }), "threads");
        assert_eq!(refused(&TrainParams { tuning: Tuning::Full, dropout: 0.1, ..params.clone() }), "dropout");
        assert_eq!(refused(&TrainParams { patience: 2, ..params }), "patience");
    }

    #[test]
    fn the_first_default_that_fits_counts_and_is_inside_its_range() {
        let rate = field("learning_rate").unwrap();
        let of = |method, tuning, parameters| default_for(rate, method, tuning, parameters);
        assert_eq!(of(Method::Sft, Tuning::Lora, None), "2e-4");
        assert_eq!(of(Method::Sft, Tuning::Lora, Some(135_000_000)), "1e-3");
        assert_eq!(of(Method::Sft, Tuning::Lora, Some(7_000_000_000)), "2e-4");
        assert_eq!(of(Method::Dpo, Tuning::Lora, None), "5e-5");
        assert_eq!(of(Method::Pretrain, Tuning::Full, Some(135_000_000)), "1e-4");
        for other in DEFAULTS {
            let value: f64 = other.value.parse().unwrap();
            match field(other.key).unwrap().kind {
                FieldKind::Real { low, high } => assert!((low..=high).contains(&value), "{other:?}"),
                FieldKind::Whole { low, high } => assert!((low as f64..=high as f64).contains(&value), "{other:?}"),
                _ => panic!("{other:?}"),
            }
        }
        let Some(FieldKind::Choice(words)) = field("method").map(|f| f.kind) else { panic!() };
        assert!(ABSENT_METHODS.iter().all(|(word, _)| !words.contains(word)));
    }

    #[test]
    fn every_field_speaks_both_languages() {
        for field in TRAIN_FORM {
            assert!(!field.label.zh.is_empty() && !field.about.zh.is_empty(), "{}", field.key);
            assert_eq!(field.too_low.en.is_empty(), field.too_low.zh.is_empty(), "{}", field.key);
            assert_eq!(field.too_high.en.is_empty(), field.too_high.zh.is_empty(), "{}", field.key);
        }
    }
}
