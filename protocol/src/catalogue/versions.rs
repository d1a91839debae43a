//! What the life of a version says: the trash, checkpoints that become versions, and its history.
use super::Message;

pub(super) const MESSAGES: &[Message] = &[
    // -- the trash, on the command line
    (
        "cli.trashed",
        "{version} is in the trash until {until}; hone model restore {version} takes it out",
        "{version} 已移入回收站，保留到 {until}；hone model restore {version} 可恢复",
    ),
    ("cli.restored", "{version} is out of the trash", "{version} 已从回收站恢复"),
    ("cli.trash_empty", "the trash is empty", "回收站为空"),
    ("cli.purged", "removed; {bytes} of disk are free again", "已删除；释放磁盘 {bytes}"),
    (
        "cli.purge_would",
        "nothing was removed; --yes removes these and frees {bytes}",
        "尚未删除；加 --yes 即删除以上版本并释放 {bytes}",
    ),
    ("cli.alias_removed", "{alias} is gone", "{alias} 已移除"),
    ("cli.col.trashed", "TRASHED", "移入时间"),
    ("cli.col.removed_on", "REMOVED ON", "删除时间"),
    ("cli.col.frees", "FREES", "可释放"),
    ("cli.state_trashed", "in the trash until {until}", "在回收站中，保留到 {until}"),
    ("cli.state_removed", "its file is removed", "文件已删除"),
    (
        "cli.verb.model.trash",
        "Put a version into the trash; its file goes after 30 days",
        "把版本移入回收站；30 天后删除其文件",
    ),
    ("cli.verb.model.trash.version", "The version: NAME@NUMBER", "版本：名称@编号"),
    ("cli.verb.model.restore", "Take a version out of the trash", "从回收站恢复版本"),
    ("cli.verb.model.restore.version", "The version: NAME@NUMBER", "版本：名称@编号"),
    (
        "cli.verb.model.purge",
        "Remove the files of versions in the trash now; without --yes only say what that would free",
        "立即删除回收站中版本的文件；不加 --yes 则只说明可释放多少",
    ),
    (
        "cli.verb.model.purge.versions",
        "Versions, NAME@NUMBER [default: all that are in the trash]",
        "版本，名称@编号 [默认：回收站中的全部]",
    ),
    ("cli.flag.yes", "Do it", "执行"),
    ("cli.flag.trash", "What is in the trash instead", "改为列出回收站中的版本"),
    ("cli.flag.remove", "Take the alias away", "移除该别名"),
    // -- versions of what a run left, on the command line
    (
        "cli.nothing_kept",
        "nothing of {job} is kept: it has no checkpoint yet, or it ended more than 30 days ago",
        "{job} 没有保留的检查点：尚未写出，或已结束超过 30 天",
    ),
    (
        "cli.verb.model.register",
        "Make a version of a kept checkpoint of a run, or of the result of a run that was not registered",
        "把训练保留的检查点，或未登记的训练结果，登记为版本",
    ),
    (
        "cli.verb.model.register.job",
        "The run: a job's id, the end of it, or `last`",
        "训练：任务编号、其末尾，或 `last`",
    ),
    (
        "cli.verb.model.register.name",
        "Name of the model that gets the version; made if it is not there",
        "得到该版本的模型名称；不存在时新建",
    ),
    (
        "cli.flag.step",
        "The step of the checkpoint [default: the run's result, else its newest checkpoint]",
        "检查点的步数 [默认：训练结果，否则为最新的检查点]",
    ),
    ("cli.verb.model.register.alias", "Alias to move to the new version", "指向新版本的别名"),
    ("cli.flag.publish", "Publish the new version as a service of this name", "以此名称把新版本发布为模型服务"),
    (
        "cli.verb.train.checkpoints",
        "List what is kept of a run, newest first: each step can become a version",
        "列出一次训练保留的检查点，最新的在前；每一步都可登记为版本",
    ),
];
