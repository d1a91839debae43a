//! The Landlock part of the fence: which files may be read, written and executed, TCP, and signals and abstract
//! sockets to the outside. Never here: what the paths of a start are (its job says), and other system calls.
//!
//! Everything is asked for at the newest version known here and the kernel gives what it has; what it lacks is said.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope, make_bitflags, path_beneath_rules,
};

use super::{GPU_LIBRARIES, GPU_NODES, MISSING, Paths, Rules};

/// The newest version whose rights are asked for.
const NEWEST: ABI = ABI::V6;

/// What each version brought, for the list of what is missing.
const BROUGHT: [(ABI, &str); 5] = [
    (ABI::V2, "moving files between its own folders"),
    (ABI::V3, "a fence around truncating"),
    (ABI::V4, "a fence around TCP"),
    (ABI::V5, "a fence around device commands"),
    (ABI::V6, "a fence around signals and abstract sockets"),
];

fn read() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{ReadFile | ReadDir})
}

/// All that makes, changes and removes plain files and folders; no devices, pipes or sockets, and nothing written
/// here can be executed.
fn write() -> BitFlags<AccessFs> {
    read()
        | make_bitflags!(AccessFs::{WriteFile | Truncate | RemoveFile | RemoveDir | MakeReg | MakeDir | MakeSym | Refer})
}

/// Restricts this thread, and what it becomes; says what was applied and what is missing.
pub(super) fn restrict(rules: &Rules, paths: &Paths, program: &Path) -> Vec<String> {
    let status = match ruleset(rules, paths, program).and_then(RulesetCreated::restrict_self) {
        Ok(RestrictionStatus { landlock, .. }) => landlock,
        Err(error) => return vec![format!("{MISSING}Landlock ({error}), so files are not fenced")],
    };
    said(status, rules)
}

fn ruleset(rules: &Rules, paths: &Paths, program: &Path) -> Result<RulesetCreated, RulesetError> {
    let tcp = match rules.network {
        false => AccessNet::BindTcp | AccessNet::ConnectTcp,
        true => AccessNet::BindTcp.into(),
    };
    let run = AccessFs::Execute | AccessFs::ReadFile;
    let shared = match rules.exec {
        true => read() | AccessFs::Execute,
        false => read(),
    };
    let mut set = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(tcp)?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(rules.system, shared))?
        .add_rules(path_beneath_rules(&paths.read, shared))?
        .add_rules(path_beneath_rules(&paths.write, write()))?
        .add_rules(path_beneath_rules(["/dev/null"], AccessFs::ReadFile | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(loader(program).iter().chain([&program.to_owned()]), run))?;
    if rules.gpu {
        let nodes = gpu_nodes();
        if !nodes.is_empty() {
            let use_device = read() | AccessFs::WriteFile | AccessFs::IoctlDev;
            set = set
                .add_rules(path_beneath_rules(nodes, use_device))?
                .add_rules(path_beneath_rules(GPU_LIBRARIES.iter().map(PathBuf::from).chain(cuda()), read()))?;
        }
    }
    Ok(set)
}

fn gpu_nodes() -> Vec<PathBuf> {
    let nvidia = std::fs::read_dir("/dev").into_iter().flatten().flatten().map(|e| e.path());
    let nvidia = nvidia.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("nvidia")));
    nvidia.chain(GPU_NODES.iter().map(PathBuf::from).filter(|p| p.exists())).collect()
}

/// Where NVIDIA's installer puts the toolkit: `/usr/local/cuda-12.4`, with `cuda` linking there.
fn cuda() -> impl Iterator<Item = PathBuf> {
    let local = std::fs::read_dir("/usr/local").into_iter().flatten().flatten();
    local.filter(|entry| entry.file_name().to_string_lossy().starts_with("cuda")).map(|entry| entry.path())
}

fn said(status: LandlockStatus, rules: &Rules) -> Vec<String> {
    let LandlockStatus::Available { effective_abi, .. } = status else {
        let why = match status {
            LandlockStatus::NotEnabled => "it is switched off in this kernel",
            _ => "this kernel has none",
        };
        return vec![format!("{MISSING}Landlock ({why}), so files are not fenced")];
    };
    let version = effective_abi as i32;
    let mut words = vec![format!("Landlock {version}: {}", if rules.exec { "files" } else { "files, one program" })];
    let lacks = BROUGHT.iter().filter(|(abi, _)| effective_abi < *abi).map(|(_, what)| *what).collect::<Vec<_>>();
    if !lacks.is_empty() {
        words.push(format!("{MISSING}{} (Landlock {version} of this kernel is too old)", lacks.join(", ")));
    }
    words
}

/// The loader that a program names: the system opens it to execute it. `None` for scripts and static programs.
fn loader(program: &Path) -> Option<PathBuf> {
    const INTERPRETER: u32 = 3;
    let mut file = std::fs::File::open(program).ok()?;
    let mut head = [0; 64];
    file.read_exact(&mut head).ok()?;
    if &head[..6] != b"\x7fELF\x02\x01" {
        return None;
    }
    let short = |bytes: &[u8], at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let long = |bytes: &[u8], at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (table, size, count) = (long(&head, 32)?, short(&head, 54)?, short(&head, 56)?);
    let mut headers = vec![0; usize::from(size) * usize::from(count)];
    file.seek(SeekFrom::Start(table)).ok()?;
    file.read_exact(&mut headers).ok()?;
    let header = headers.chunks(usize::from(size).max(1)).find(|h| h.starts_with(&INTERPRETER.to_le_bytes()))?;
    file.seek(SeekFrom::Start(long(header, 8)?)).ok()?;
    let mut name = Vec::new();
    file.take(long(header, 32)?.min(4096)).read_to_end(&mut name).ok()?;
    let name = name.split(|b| *b == 0).next()?;
    Some(PathBuf::from(std::str::from_utf8(name).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Class;

    #[test]
    fn the_loader_of_a_program_is_a_file() {
        let own = std::env::current_exe().unwrap();
        assert!(loader(&own).is_none_or(|l| l.is_file()), "{:?}", loader(&own));
        assert_eq!(loader(Path::new("/etc/passwd")), None);
    }

    #[test]
    fn what_an_older_kernel_lacks_is_named() {
        let at =
            |effective_abi| said(LandlockStatus::Available { effective_abi, kernel_abi: None }, Class::Reader.rules());
        assert_eq!(at(ABI::V7).len(), 1);
        assert!(at(ABI::V3)[1].contains("TCP") && !at(ABI::V3)[1].contains("truncating"));
        assert!(said(LandlockStatus::NotImplemented, Class::Reader.rules())[0].starts_with(MISSING));
    }
}
