//! Where the daemon is found: the state directory, the socket in it, and whether both are ours to trust. Never here:
//! a byte sent or read.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::paths;
use interprocess::local_socket::prelude::*;
use interprocess::local_socket::{GenericFilePath, Stream};

/// How to reach the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The state directory, absolute.
    pub state_dir: String,
    /// Whom acts are attributed to; none leaves it to the daemon, which takes the peer's user name.
    pub person: Option<String>,
    /// Whether to start a daemon when nothing answers.
    pub start_daemon: bool,
    /// A daemon's socket for other users; none for our own daemon's.
    pub shared: Option<String>,
    /// The project of labelling that the connection is for, and nothing else; none for no such bound.
    pub project: Option<String>,
}

impl Options {
    /// From a typed directory, else `HONE_STATE`, `XDG_STATE_HOME` or `HOME`.
    pub fn from_env(state: Option<&str>, person: Option<String>) -> Result<Options, Failure> {
        let env = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let typed = state.map(absolute).transpose()?;
        let hone_state = env("HONE_STATE");
        if let (None, Some(set)) = (&typed, &hone_state)
            && !set.starts_with('/')
        {
            return Err(Failure::field("HONE_STATE", format!("HONE_STATE is {set:?}; it must be an absolute path"))
                .hint(HintCode::MoveState));
        }
        let typed = typed.or(hone_state);
        let state_dir = paths::state_dir(typed.as_deref(), env("XDG_STATE_HOME").as_deref(), env("HOME").as_deref())
            .ok_or_else(|| {
                Failure::field("HONE_STATE", "none of HONE_STATE, XDG_STATE_HOME and HOME is an absolute path")
                    .hint(HintCode::MoveState)
            })?;
        let shared = env("HONE_SOCKET").map(|path| absolute(&path)).transpose()?;
        Ok(Options { state_dir, person, start_daemon: shared.is_none(), shared, project: None })
    }

    /// The socket's path, checked for its length.
    pub fn socket(&self) -> Result<String, Failure> {
        let socket = self.shared.clone().unwrap_or_else(|| paths::socket(&self.state_dir));
        if socket.len() > paths::SOCKET_PATH_BYTES_MAX {
            return Err(Failure::new(
                FailureCode::InvalidField,
                format!(
                    "the socket's path has {} bytes and the system allows {}; set HONE_STATE to a shorter directory",
                    socket.len(),
                    paths::SOCKET_PATH_BYTES_MAX
                ),
            )
            .at(socket)
            .arg("variable", "HONE_STATE")
            .hint(HintCode::MoveState));
        }
        Ok(socket)
    }
}

fn absolute(path: &str) -> Result<String, Failure> {
    std::path::absolute(path)
        .ok()
        .and_then(|p| p.into_os_string().into_string().ok())
        .ok_or_else(|| Failure::field("--state", "the path is empty or not UTF-8").at(path))
}

/// Opens the socket after checking that only its owner, who must be us, can have put it there.
pub(super) fn open(options: &Options, socket: &str) -> Result<Option<Stream>, Failure> {
    let run = match &options.shared {
        Some(shared) => Path::new(shared).parent().unwrap_or(Path::new("/")).display().to_string(),
        None => format!("{}/{}", options.state_dir, paths::RUN),
    };
    let unreadable =
        |what: &str, e: io::Error| Failure::new(FailureCode::FileUnreadable, format!("{what}: {e}")).at(what);
    let folder = match fs::symlink_metadata(&run) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&run, error)),
        Ok(folder) => folder,
    };
    // Only whose folder it is can have put the socket there.
    let owner = match &options.shared {
        Some(_) => check_shared_folder(&run, &folder)?,
        None => {
            check_folder(&run, &folder)?;
            rustix::process::geteuid().as_raw()
        }
    };
    let name =
        socket.to_fs_name::<GenericFilePath>().map_err(|e| Failure::field("HONE_STATE", e.to_string()).at(socket))?;
    let stream = match Stream::connect(name) {
        Ok(stream) => stream,
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => return Ok(None),
            _ => return Err(unreadable(socket, error)),
        },
    };
    let ours = rustix::process::geteuid().as_raw();
    let theirs = stream.peer_creds().map_err(|e| unreadable(socket, e))?.euid();
    // A folder of root's holds sockets of daemons of others.
    let is_known = theirs == Some(owner) || options.shared.is_some() && owner == 0;
    if !is_known {
        let theirs = theirs.map_or_else(|| "an unknown user".to_owned(), |uid| format!("user {uid}"));
        return Err(Failure::new(
            FailureCode::Forbidden,
            format!("{theirs} listens on the socket, and we are user {ours}; nothing was sent"),
        )
        .at(socket));
    }
    Ok(Some(stream))
}

/// Whose folder of a shared socket it is, when nobody else can write there.
fn check_shared_folder(run: &str, folder: &fs::Metadata) -> Result<u32, Failure> {
    if folder.is_dir() && folder.mode() & 0o022 == 0 {
        return Ok(folder.uid());
    }
    let message = format!("others can write to {run}: the socket in it could be anybody's");
    Err(Failure::new(FailureCode::Forbidden, message).at(run))
}

fn check_folder(run: &str, folder: &fs::Metadata) -> Result<(), Failure> {
    let ours = rustix::process::geteuid().as_raw();
    let mode = folder.mode() & 0o777;
    let problem = if !folder.is_dir() {
        "it is not a folder".to_owned()
    } else if folder.uid() != ours {
        format!("it belongs to user {}, and we are user {ours}", folder.uid())
    } else if mode != 0o700 {
        format!("its mode is {mode:04o}, and it must be 0700: chmod 700 {run}")
    } else {
        return Ok(());
    };
    Err(Failure::new(FailureCode::Forbidden, format!("the socket's folder is not safe to use: {problem}")).at(run))
}

/// Makes a folder and its parents with mode 0700.
pub(crate) fn make_private_folder(path: &str) -> Result<(), Failure> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| {
        Failure::new(FailureCode::FileUnreadable, format!("the folder cannot be made: {e}"))
            .at(path)
            .hint(HintCode::MoveState)
    })
}
