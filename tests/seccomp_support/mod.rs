//! A seccomp filter that answers as a container runtime's does (seccomp(2), kernel seccomp_filter.rst).

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// A system call, and the errno that it gets.
pub(crate) type Rule = (i64, i32);

const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// The calls by which mounts are made: what docker's default profile keeps for CAP_SYS_ADMIN, and its AppArmor profile
/// denies as `mount`.
pub(crate) fn mounts(errno: i32) -> Vec<Rule> {
    [
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_mount_setattr,
    ]
    .map(|call| (call, errno))
    .to_vec()
}

/// moby's profiles/seccomp/default.json for a container without CAP_SYS_ADMIN: clone3 is ENOSYS, so that libc falls back
/// to clone, whose flags a filter can see; what makes or enters namespaces is EPERM.
pub(crate) fn docker() -> Vec<Rule> {
    let mut rules = mounts(libc::EPERM);
    rules.extend([(libc::SYS_clone3, libc::ENOSYS), (libc::SYS_unshare, libc::EPERM), (libc::SYS_setns, libc::EPERM)]);
    rules
}

/// The command runs below the filter.
pub(crate) fn filtered(mut command: Command, rules: &[Rule]) -> Command {
    let mut program = vec![instruction(LOAD_WORD, 0, 0, 0)];
    for (call, errno) in rules {
        program.push(instruction(JUMP_IF_EQUAL, 0, 1, u32::try_from(*call).expect("a call's number")));
        program.push(instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()));
    }
    program.push(instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    // SAFETY: between fork and exec only async-signal-safe calls are made: `install` allocates nothing.
    unsafe { command.pre_exec(move || install(&program)) };
    command
}

fn instruction(code: u16, if_true: u8, if_false: u8, operand: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: if_true, jf: if_false, k: operand }
}

fn install(program: &[libc::sock_filter]) -> std::io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| std::io::Error::from_raw_os_error(libc::E2BIG))?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: integers only.
    let quiet = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the kernel reads the program, which outlives the call, and writes nothing to it.
    let filtered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if quiet == 0 && filtered == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
