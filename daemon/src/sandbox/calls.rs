//! The seccomp part of the fence: system calls that no child needs are refused with "operation not permitted".
//! Never here: files (Landlock asks about those), and calls that hone's own programs make.
//!
//! It is a list of what is refused, not of what is allowed: a libc or driver that is newer than hone must not break.
//! Each way around the list is closed too: `io_uring` (which opens sockets without `socket`), the x32 numbers of the
//! same calls, and `clone3`, whose flags a filter cannot see, so that the C library falls back to `clone`.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule, apply_filter, sock_filter};

use super::Rules;

/// Refused to every class.
const NEVER: &[c_long] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // Mounts, roots and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Refused beside them to classes that start no programs: changing by path what belongs to files, which Landlock
/// does not ask about, and new processes.
const NOT_ALONE: &[c_long] = &[
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// The address families that a class with a network may open. No Unix sockets: one of them is the daemon's own.
/// Netlink is how the C library asks which addresses this machine has.
const FAMILIES: [i32; 3] = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Flags of `clone` that make a namespace.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// The first number of the x32 calls: the same calls as those of x86-64, under other numbers.
const X32: u32 = 0x4000_0000;

/// Applies the filters of a class to this thread; says what was applied.
pub(super) fn restrict(rules: &Rules) -> Result<String, seccompiler::Error> {
    apply_filter(&refusals(rules)?)?;
    apply_filter(&other_numbers())?;
    let network = match rules.network {
        true => "no Unix sockets",
        false => "no sockets",
    };
    let processes = match rules.exec {
        true => "",
        false => ", no new processes",
    };
    Ok(format!("seccomp: no ptrace, mounts, namespaces, bpf, keys, io_uring or modules, {network}{processes}"))
}

fn refusals(rules: &Rules) -> Result<BpfProgram, seccompiler::Error> {
    let always = Vec::new;
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = NEVER.iter().map(|&call| (call, always())).collect();
    let rule = |conditions: Vec<SeccompCondition>| SeccompRule::new(conditions);
    let mut clone = Vec::new();
    for flag in NAMESPACES {
        let flag = u64::from(flag.cast_unsigned());
        clone.push(rule(vec![SeccompCondition::new(0, Qword, MaskedEq(flag), flag)?])?);
    }
    if !rules.exec {
        refused.extend(NOT_ALONE.iter().map(|&call| (call, always())));
        let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
        clone.push(rule(vec![SeccompCondition::new(0, Qword, MaskedEq(thread), 0)?])?);
    }
    refused.insert(libc::SYS_clone, clone);
    let socket = match rules.network {
        false => always(),
        true => {
            let other = |family: &i32| SeccompCondition::new(0, Dword, Ne, u64::from(family.cast_unsigned()));
            vec![rule(FAMILIES.iter().map(other).collect::<Result<_, _>>()?)?]
        }
    };
    refused.insert(libc::SYS_socket, socket);
    // Typing into the terminal that the daemon may have been started from.
    let typing = SeccompCondition::new(1, Dword, Eq, libc::TIOCSTI)?;
    refused.insert(libc::SYS_ioctl, vec![rule(vec![typing])?]);
    let arch = std::env::consts::ARCH.try_into()?;
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    Ok(SeccompFilter::new(refused, SeccompAction::Allow, refuse, arch)?.try_into()?)
}

/// `clone3` is answered "no such call", and every x32 call is refused. Written out because one filter of the crate
/// has one answer. The filter before this one has checked the architecture.
fn other_numbers() -> BpfProgram {
    let load_number = sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 };
    let jump_if = |code, k, yes, no| sock_filter { code, jt: yes, jf: no, k };
    let answer = |action: SeccompAction| sock_filter { code: 0x06, jt: 0, jf: 0, k: action.into() };
    vec![
        load_number,
        jump_if(0x15, libc::SYS_clone3 as u32, 1, 0),
        jump_if(0x35, X32, 1, 2),
        answer(SeccompAction::Errno(libc::ENOSYS.cast_unsigned())),
        answer(SeccompAction::Errno(libc::EPERM.cast_unsigned())),
        answer(SeccompAction::Allow),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::TABLE;

    #[test]
    fn a_filter_can_be_made_for_every_class() {
        for rules in &TABLE {
            let program = refusals(rules).unwrap();
            assert!(program.len() > NEVER.len() && program.len() < 4096, "{}", program.len());
        }
    }

    #[test]
    fn other_numbers_are_answered_as_said() {
        // A machine for the four instructions in use.
        let run = |number: u32| -> u32 {
            let (program, mut at) = (other_numbers(), 0);
            loop {
                let step = &program[at];
                let taken = match step.code {
                    0x20 => 0,
                    0x15 if number == step.k => step.jt,
                    0x35 if number >= step.k => step.jt,
                    0x15 | 0x35 => step.jf,
                    _ => return step.k,
                };
                at += 1 + usize::from(taken);
            }
        };
        let errno = |e: i32| u32::from(SeccompAction::Errno(e.cast_unsigned()));
        assert_eq!(run(libc::SYS_clone3 as u32), errno(libc::ENOSYS));
        assert_eq!(run(X32 + libc::SYS_socket as u32), errno(libc::EPERM));
        assert_eq!(run(libc::SYS_read as u32), u32::from(SeccompAction::Allow));
    }
}
