//! What to do next, for each hint of a failure.
use super::Message;

pub(super) const MESSAGES: &[Message] = &[
    ("hint.list_names", "list what there is and choose from it", "先列出已有的，再从中选择"),
    ("hint.choose_another_name", "choose another name", "换一个名字"),
    ("hint.correct_field", "correct the named field", "修正指出的字段"),
    ("hint.reduce_memory", "free memory, or choose smaller numbers", "释放内存，或改用更小的数值"),
    ("hint.free_disk", "free disk space; it goes on by itself", "释放磁盘空间；之后会自动继续"),
    ("hint.read_log", "read the log: hone job log ID", "查看日志：hone job log ID"),
    ("hint.try_again", "try again; nothing was changed", "请重试；没有任何改动"),
    ("hint.start_service", "start the service: hone service start NAME", "启动服务：hone service start NAME"),
    ("hint.lower_learning_rate", "lower the learning rate and start again", "调低学习率后重新开始"),
    ("hint.shorten_prompt", "shorten the prompt, or publish with a longer context", "缩短提示，或以更长的上下文发布"),
    (
        "hint.make_key",
        "make a key (hone key create APP) and send it as a bearer token",
        "创建密钥（hone key create APP），并作为 Bearer 令牌发送",
    ),
    ("hint.upgrade", "upgrade the older side", "升级较旧的一方"),
    ("hint.correct_file", "correct the file at the named place and import it again", "修正文件中指出的位置后重新导入"),
    ("hint.move_state", "set HONE_STATE to a short path on a local disk", "把 HONE_STATE 设为本地磁盘上的短路径"),
    ("hint.stop_users", "stop what uses it first", "先停止正在使用它的部分"),
    ("hint.start_daemon", "start the daemon: hone daemon start", "启动守护进程：hone daemon start"),
    ("hint.report_bug", "this is a bug; please report it with the log", "这是程序缺陷；请附上日志报告"),
    (
        "hint.check_upstream",
        "give the service the right address, model or key: hone service publish NAME --upstream URL --upstream-model M",
        "为服务设置正确的地址、模型或密钥：hone service publish NAME --upstream URL --upstream-model M",
    ),
];
