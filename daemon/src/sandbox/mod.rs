//! What each class of child may do: one table, read by the spawner, by the shim that applies it and by the tests.
//! Lives here: the classes, their limits, what of the system they may read, and the paths of one start. `shim`
//! applies them in the child's own process before the program runs; `files` is the Landlock part, `calls` the
//! seccomp part. Never here: which job starts which child (jobs do), and resident memory (`workers::memory`).
//!
//! The order is: spawner → `honed child CLASS …` ([`shim`]) → the same process becomes the program. What was applied
//! travels in [`APPLIED_VARIABLE`] to the program, which repeats it in its hello.

mod calls;
mod files;
mod shim;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use shim::{EXIT_NO_PROGRAM, EXIT_REFUSED, run};

/// The environment variable in which a fenced program finds what was applied: items with `;` between them.
pub const APPLIED_VARIABLE: &str = "HONE_SANDBOX";

/// How an item begins that names a layer which this system does not have.
pub const MISSING: &str = "missing: ";

/// A class of child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// `hone-worker inspect` and `tokenize`: a stranger's header, vocabulary and template.
    Reader,
    /// `hone-worker from-folder`: a stranger's folder into one large file.
    Writer,
    /// `hone-worker train`, `serve` and `convert`: ggml.
    Compute,
    /// `honed data`: imports, exports and pages of rows.
    Data,
    /// `honed fetch`: downloads into one scratch folder.
    Fetch,
    /// `honed upstream`: speaks to one server elsewhere; no files at all. With `Fetch` the only class with a network.
    Upstream,
    /// A command that a person approved: plugins.
    Tool,
}

/// What a class may do. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Whose rules these are.
    pub class: Class,
    /// Its word on the shim's command line.
    pub word: &'static str,
    /// Address space in bytes. Beyond it allocations fail. None for those that map weights or talk to a GPU: there
    /// the daemon watches resident memory instead.
    pub address_space_bytes: Option<u64>,
    /// Processor seconds. Beyond them the system ends the child.
    pub cpu_s: Option<u64>,
    /// Largest file it may write. Beyond it writes fail with "file too large".
    pub file_bytes: u64,
    /// Open files and sockets.
    pub open_files: u64,
    /// Processes and threads *of the whole user*, which is how the system counts; so it is given only to a class
    /// that may start processes and whose program nobody knows.
    pub processes: Option<u64>,
    /// Whether it may open sockets to other machines.
    pub network: bool,
    /// Whether it may start other programs, and new processes at all.
    pub exec: bool,
    /// Whether it may use GPU device nodes, where there are any.
    pub gpu: bool,
    /// What of the system it may read.
    pub system: &'static [&'static str],
}

/// Shared libraries, time zones, and what the C library and ggml ask the system about itself. `/proc` is whole: of
/// processes outside the fence the system shows only what it shows every user, because Landlock keeps their memory,
/// environment and open files closed. (Only `/proc/self` would be lost when its cached inode is.)
const LIBRARIES: &[&str] = &[
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/proc",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
];

/// Programs beside the libraries, and the system's settings (name service, certificates).
const PROGRAMS: &[&str] = &[
    "/bin",
    "/sbin",
    "/usr",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/proc",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
];

/// Beside the libraries: names of machines, and certificates.
const NAMES: &[&str] = &[
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/proc",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/dev/urandom",
    "/dev/random",
];

/// GPU nodes beside `/dev/nvidia*`.
const GPU_NODES: &[&str] = &["/dev/kfd", "/dev/dri", "/dev/nvidia-caps"];

/// Where there is a GPU: how drivers describe it, their settings, and toolkits outside the usual library folders
/// (beside `/usr/local/cuda*`).
const GPU_LIBRARIES: &[&str] = &["/sys", "/etc/vulkan", "/usr/share/vulkan", "/usr/share/nvidia", "/opt/cuda"];

/// The table. `docs/sandbox.md` shows it to people; a test compares the two.
pub const TABLE: [Rules; 7] = [
    Rules {
        class: Class::Reader,
        word: "reader",
        address_space_bytes: Some(4 << 30),
        cpu_s: Some(4 * 3600),
        file_bytes: 64 << 20,
        open_files: 64,
        processes: None,
        network: false,
        exec: false,
        gpu: false,
        system: LIBRARIES,
    },
    Rules {
        class: Class::Writer,
        word: "writer",
        address_space_bytes: Some(8 << 30),
        cpu_s: Some(24 * 3600),
        file_bytes: 1 << 40,
        // A model may lie in hundreds of files.
        open_files: 2048,
        processes: None,
        network: false,
        exec: false,
        gpu: false,
        system: LIBRARIES,
    },
    Rules {
        class: Class::Compute,
        word: "compute",
        address_space_bytes: None,
        cpu_s: None,
        file_bytes: 1 << 40,
        open_files: 1024,
        processes: None,
        network: false,
        exec: false,
        gpu: true,
        system: LIBRARIES,
    },
    Rules {
        class: Class::Data,
        word: "data",
        address_space_bytes: Some(2 << 30),
        cpu_s: Some(4 * 3600),
        file_bytes: 256 << 30,
        open_files: 1024,
        processes: None,
        network: false,
        exec: false,
        gpu: false,
        system: LIBRARIES,
    },
    Rules {
        class: Class::Fetch,
        word: "fetch",
        address_space_bytes: Some(1 << 30),
        cpu_s: Some(4 * 3600),
        file_bytes: 1 << 40,
        open_files: 256,
        processes: None,
        network: true,
        exec: true,
        gpu: false,
        system: PROGRAMS,
    },
    Rules {
        class: Class::Upstream,
        word: "upstream",
        address_space_bytes: Some(4 << 30),
        // It lives as long as its service.
        cpu_s: None,
        // Its log.
        file_bytes: 64 << 20,
        open_files: 1024,
        processes: None,
        network: true,
        exec: false,
        gpu: false,
        system: NAMES,
    },
    Rules {
        class: Class::Tool,
        word: "tool",
        // Wide, because script engines reserve tens of GiB that they never use.
        address_space_bytes: Some(64 << 30),
        cpu_s: Some(3600),
        file_bytes: 1 << 30,
        open_files: 1024,
        processes: Some(4096),
        network: false,
        exec: true,
        gpu: false,
        system: PROGRAMS,
    },
];

impl Class {
    /// Its row of the table.
    pub fn rules(self) -> &'static Rules {
        TABLE.iter().find(|r| r.class == self).expect("a test walks every class through the table")
    }

    /// The class of that word.
    pub fn named(word: &str) -> Option<Class> {
        TABLE.iter().find(|r| r.word == word).map(|r| r.class)
    }
}

/// What one start may read and write beyond what its class may. A folder stands for all below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
}

impl Paths {
    /// Nothing beyond the class.
    pub fn none() -> Paths {
        Paths::default()
    }

    /// And may read that.
    pub fn read(mut self, path: impl Into<PathBuf>) -> Paths {
        self.read.push(path.into());
        self
    }

    /// And may read and write that; it must be there when the child starts.
    pub fn write(mut self, path: impl Into<PathBuf>) -> Paths {
        self.write.push(path.into());
        self
    }

    /// And may read what the fetcher's Python needs: its installation, and the user's pip settings and cache.
    /// `variable` answers for the environment; nothing is opened that has `state` below it.
    pub fn read_python(mut self, state: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Paths {
        let home = variable("HOME").map(PathBuf::from);
        let name = variable("HONE_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
        let search = variable("PATH").unwrap_or_default();
        let found = std::env::split_paths(&search).map(|folder| folder.join(&name)).find(|p| p.is_file());
        for program in found.iter().cloned().chain(found.as_ref().and_then(|p| p.canonicalize().ok())) {
            let Some(folder) = program.parent() else { continue };
            self.read.push(folder.to_owned());
            // The installation around `bin`, unless that is more than an installation.
            let wide = |root: &Path| {
                root.ends_with(".local")
                    || state.starts_with(root)
                    || home.as_ref().is_some_and(|h| h.starts_with(root))
            };
            if let Some(root) = folder.parent() {
                self.read.push(if wide(root) { root.join("lib") } else { root.to_owned() });
            }
        }
        let below = |variable: Option<OsString>, name: &str| variable.map(|v| Path::new(&v).join(name));
        let settings = [
            below(variable("HOME"), ".config/pip"),
            below(variable("HOME"), ".pip"),
            below(variable("HOME"), ".cache/pip"),
            below(variable("HOME"), ".local/lib"),
            below(variable("XDG_CONFIG_HOME"), "pip"),
            below(variable("XDG_CACHE_HOME"), "pip"),
        ];
        // A folder of wheels, for machines without an index.
        let wheels = variable("PIP_FIND_LINKS").map(PathBuf::from).filter(|folder| folder.is_absolute());
        self.read.extend(wheels);
        let named = ["PIP_CONFIG_FILE", "PIP_CACHE_DIR", "PIP_CERT", "SSL_CERT_FILE"];
        self.read.extend(settings.into_iter().flatten());
        self.read.extend(named.into_iter().filter_map(variable).map(PathBuf::from));
        self
    }
}

/// The shim's command line after `honed`: what [`run`] reads.
pub fn arguments(class: Class, parent: u32, paths: &Paths, program: &Path, rest: &[&str]) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["child", class.rules().word, "--parent"].map(OsString::from).into();
    words.push(parent.to_string().into());
    for (flag, list) in [("--read", &paths.read), ("--write", &paths.write)] {
        for path in list {
            words.extend([flag.into(), path.clone().into_os_string()]);
        }
    }
    words.extend(["--".into(), program.as_os_str().to_owned()]);
    words.extend(rest.iter().map(OsString::from));
    words
}

/// What was applied, as the shim wrote it; nothing when this process was not started by the shim.
pub fn applied() -> Option<Vec<String>> {
    let text = std::env::var(APPLIED_VARIABLE).ok()?;
    Some(text.split(';').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_one_row_and_its_word_leads_back() {
        let all =
            [Class::Reader, Class::Writer, Class::Compute, Class::Data, Class::Fetch, Class::Upstream, Class::Tool];
        for class in all {
            assert_eq!(TABLE.iter().filter(|r| r.class == class).count(), 1);
            assert_eq!(Class::named(class.rules().word), Some(class));
        }
        assert_eq!(Class::named("root"), None);
        let with_network = TABLE.iter().filter(|r| r.network).map(|r| r.class);
        assert_eq!(with_network.collect::<Vec<_>>(), [Class::Fetch, Class::Upstream]);
    }

    #[test]
    fn both_pages_show_the_table_as_it_is() {
        let size = |bytes: u64| match bytes {
            b if b >= 1 << 40 => format!("{} TiB", b >> 40),
            b if b >= 1 << 30 => format!("{} GiB", b >> 30),
            b => format!("{} MiB", b >> 20),
        };
        for page in [include_str!("../../../docs/sandbox.md"), include_str!("../../../docs/zh/sandbox.md")] {
            for rules in TABLE {
                let row = page.lines().find(|l| l.starts_with(&format!("| `{}` |", rules.word))).expect("a row");
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                let limits = [
                    rules.address_space_bytes.map_or("–".to_owned(), size),
                    rules.cpu_s.map_or("–".to_owned(), |s| format!("{} h", s / 3600)),
                    size(rules.file_bytes),
                    rules.open_files.to_string(),
                    rules.processes.map_or("–".to_owned(), |p| p.to_string()),
                ];
                assert_eq!(&cells[3..8], &limits, "{row}");
            }
        }
    }

    #[test]
    fn a_python_in_the_home_does_not_open_the_home() {
        let home = tempfile::tempdir().unwrap();
        let own = |below: &str| home.path().join(below);
        let opened = |bin: &str| {
            std::fs::create_dir_all(own(bin)).unwrap();
            std::fs::write(own(bin).join("python3"), "").unwrap();
            let variable = |name: &str| match name {
                "HOME" => Some(home.path().into()),
                "PATH" => Some(own(bin).into()),
                _ => None,
            };
            Paths::none().read_python(&own("state/hone"), variable).read
        };
        for (bin, whole) in [(".local/bin", ".local"), ("bin", ""), ("state/bin", "state")] {
            let read = opened(bin);
            assert!(read.contains(&own(bin)) && !read.contains(&own(whole)), "{read:?}");
        }
        assert!(opened(".pyenv/shims").contains(&own(".pyenv")));
    }
}
