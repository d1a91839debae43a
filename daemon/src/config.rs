//! Where things are and how much of the machine may be used: read once at start.

use std::path::PathBuf;

use hone_protocol::paths;

/// Places on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The state directory.
    pub state: PathBuf,
    /// Weights.
    pub models: PathBuf,
    /// Content-addressed files.
    pub blobs: PathBuf,
}

impl Places {
    /// Below a state directory; `HONE_MODELS` moves weights and blobs.
    pub fn new(state: PathBuf, models: Option<PathBuf>) -> Places {
        let (models, blobs) = match models {
            Some(root) => (root.join(paths::MODELS), root.join(paths::BLOBS)),
            None => (state.join(paths::MODELS), state.join(paths::BLOBS)),
        };
        Places { state, models, blobs }
    }

    /// Files that applications uploaded.
    pub fn files(&self) -> PathBuf {
        self.state.join(paths::FILES)
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.state.join(paths::RUN).join(paths::SOCKET)
    }
}

/// What the daemon was started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Places on disk.
    pub places: Places,
    /// Addresses for HTTP; empty for the default one.
    pub http: Vec<String>,
    /// Those of them that other machines may reach, in the same words.
    pub expose: Vec<String>,
    /// Host names under which HTTP may be called besides the loopback ones.
    pub hosts: Vec<String>,
    /// A socket for other users of this machine that are let in; none for none.
    pub share: Option<PathBuf>,
    /// Cores of the pool; 0 for all that the process may use.
    pub cores: u32,
    /// Memory of the pool in bytes; 0 for four fifths of what can be had now.
    pub pool_memory_bytes: u64,
}

/// Where HTTP listens when nothing else is said.
pub const HTTP_DEFAULT: &str = "127.0.0.1:7077";
