//! Looking at this machine: processor time, memory, disk. Lives here: reading `/proc` and the file system's
//! figures. Never here: what they are used for.

use std::path::Path;

use hone_protocol::event::Machine;

/// Processor time since boot, in ticks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ticks {
    busy: u64,
    all: u64,
}

/// Looks at the machine. `before` is the last look's ticks.
pub fn look(state_dir: &Path, cores: u32, pool_memory_bytes: u64, before: Option<Ticks>) -> (Machine, Option<Ticks>) {
    let (memory_bytes, memory_available_bytes) = memory();
    let now = ticks();
    let cpu_busy = before.zip(now).and_then(|(a, b)| {
        let all = b.all.checked_sub(a.all).filter(|all| *all > 0)?;
        Some(b.busy.saturating_sub(a.busy) as f32 / all as f32)
    });
    let uname = rustix::system::uname();
    let machine = Machine {
        host: uname.nodename().to_string_lossy().into_owned(),
        cores,
        cpu_busy,
        memory_bytes,
        memory_available_bytes,
        pool_memory_bytes,
        disk_free_bytes: disk_free_bytes(state_dir).unwrap_or(0),
        gpus: gpus(),
    };
    (machine, now)
}

/// Bytes that can be written where `folder` is, if the system says.
pub fn disk_free_bytes(folder: &Path) -> Option<u64> {
    rustix::fs::statvfs(folder).ok().map(|s| s.f_bavail * s.f_frsize)
}

/// Memory in all and what could be had, in bytes.
pub fn memory() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    (field("MemTotal:").unwrap_or(0) * 1024, field("MemAvailable:").unwrap_or(0) * 1024)
}

/// Milliseconds since the machine was booted; 0 when the system does not say.
pub fn up_ms() -> i64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: Option<f64> = text.split_whitespace().next().and_then(|word| word.parse().ok());
    seconds.map_or(0, |seconds| (seconds * 1000.0) as i64)
}

/// A number that differs from boot to boot; 0 when the system does not say.
pub fn boot() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
}

fn ticks() -> Option<Ticks> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let numbers: Vec<u64> = text.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    let all = numbers.iter().take(8).sum();
    // Idle and waiting for disk are fields four and five.
    let idle: u64 = numbers.get(3)? + numbers.get(4)?;
    Some(Ticks { busy: u64::saturating_sub(all, idle), all })
}

/// GPUs that the NVIDIA driver lists; empty when there is no driver.
fn gpus() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc/driver/nvidia/gpus") else { return Vec::new() };
    let model = |text: String| text.lines().find_map(|l| l.strip_prefix("Model:")).map(|m| m.trim().to_owned());
    entries
        .flatten()
        .filter_map(|e| std::fs::read_to_string(e.path().join("information")).ok())
        .filter_map(model)
        .collect()
}

/// Cores that this process may use.
pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

/// The file system's name when it is a network one, on which locks and sockets cannot be trusted.
pub fn network_file_system(path: &Path) -> Option<&'static str> {
    // Magic numbers from statfs(2).
    match rustix::fs::statfs(path).ok()?.f_type {
        0x6969 => Some("NFS"),
        0x517b => Some("SMB"),
        0xff53_4d42 => Some("CIFS"),
        0xfe53_4d42 => Some("SMB2"),
        0x5346_414f => Some("AFS"),
        0x00c3_6400 => Some("Ceph"),
        0x0bd0_0bd0 => Some("Lustre"),
        _ => None,
    }
}

/// Lets this process open as many files as the system allows it: each connection is one. What cannot be raised stays.
pub fn raise_open_files() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}

/// The name of a user, or `uid-N` when the system has none.
pub fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("uid-{uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_cores_and_a_busy_share_on_the_second_look() {
        let (first, ticks) = look(Path::new("/"), cores(), 1, None);
        assert!(first.memory_bytes > 0 && first.cores > 0 && first.cpu_busy.is_none());
        let before = ticks.map(|t| Ticks { busy: t.busy.saturating_sub(10), all: t.all.saturating_sub(100) });
        let (second, _) = look(Path::new("/"), cores(), 1, before);
        assert!((0.0..=1.0).contains(&second.cpu_busy.unwrap()));
    }
}
