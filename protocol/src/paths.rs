//! Where things are below the state directory: names only, no I/O. The state directory itself is chosen by
//! the process (`HONE_STATE`, else `$XDG_STATE_HOME/hone`, else `~/.local/state/hone`).

/// Folder of the socket below the state directory; mode 0700.
pub const RUN: &str = "run";
/// The socket below [`RUN`]; mode 0600.
pub const SOCKET: &str = "hone.sock";
/// The lock that proves that a daemon lives, below the state directory.
pub const LOCK: &str = "honed.lock";
/// The store.
pub const STORE: &str = "store.redb";
/// The daemon's own log.
pub const LOG: &str = "honed.log";
/// Weights, named by model and version; relocatable with `HONE_MODELS`.
pub const MODELS: &str = "models";
/// Content-addressed files.
pub const BLOBS: &str = "blobs";
/// One folder per job: log, exported rows, checkpoints, adapter.
pub const JOBS: &str = "jobs";
/// Checkpoints of a run, in folders named by their step, below the job's folder.
pub const CHECKPOINTS: &str = "checkpoints";
/// The files of a checkpoint that a version can be made of: what it is, and the trained values.
pub const CHECKPOINT_FILES: [&str; 2] = ["manifest.json", "adapter.f32"];
/// What a run ends with, below the job's folder.
pub const TRAINED: &str = "trained.gguf";
/// Files that applications uploaded, named by their ids.
pub const FILES: &str = "files";
/// Folders of hooks that run a command, by name.
pub const HOOKS: &str = "hooks";
/// The 32 random bytes that secrets of hooks are made of, below the state directory; mode 0600.
pub const HOOK_KEY: &str = "hook.key";
/// Logs of serving processes.
pub const LOGS: &str = "logs";
/// Addresses on which HTTP listens, one a line, below [`RUN`].
pub const HTTP: &str = "http";

/// Longest path of a Unix socket on Linux, the closing zero not counted.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The state directory from the environment's values, in order of preference.
pub fn state_dir(hone_state: Option<&str>, xdg_state_home: Option<&str>, home: Option<&str>) -> Option<String> {
    let set = |value: Option<&str>| value.filter(|v| v.starts_with('/')).map(|v| v.trim_end_matches('/').to_owned());
    set(hone_state)
        .or_else(|| set(xdg_state_home).map(|v| v + "/hone"))
        .or_else(|| set(home).map(|v| v + "/.local/state/hone"))
}

/// The socket of a state directory.
pub fn socket(state_dir: &str) -> String {
    format!("{state_dir}/{RUN}/{SOCKET}")
}

/// Whether a text may be a name: 1 to 64 of `[a-z0-9._-]`, beginning with a letter or digit.
pub fn is_name(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(ok) && text.as_bytes()[0].is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_is_the_first_absolute_one() {
        assert_eq!(state_dir(Some("/s/"), Some("/x"), Some("/h")).unwrap(), "/s");
        assert_eq!(state_dir(Some("rel"), Some("/x"), Some("/h")).unwrap(), "/x/hone");
        assert_eq!(state_dir(None, None, Some("/h")).unwrap(), "/h/.local/state/hone");
        assert_eq!(state_dir(None, None, None), None);
    }

    #[test]
    fn names_are_plain() {
        for good in ["a", "smollm2-135m", "v1.2_x"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "A", "a b", "../x", "名"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
