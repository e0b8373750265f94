//! The system calls that no container may make, as a program for seccomp(2).
//!
//! Every process of a container gets it, also one that `exec` brings in, whatever its seccompProfile or privileges:
//! * `keyctl`, `add_key`, `request_key`: keyrings belong to the host's user ids, not to a namespace (keyrings(7)).
//! * `socket(AF_VSOCK)`: such sockets are in no network namespace (vsock(7)).
//! * `io_uring_setup`: a ring makes sockets without socket(2), past this filter (IORING_OP_SOCKET).
//!
//! docs/decisions/0013-syscall-filter.md says why these, and what stays open.

#[cfg(test)]
mod tests;

/// `code`, `jt`, `jf` and `k` of a `struct sock_filter` (bpf(4), linux/filter.h).
pub type Instruction = (u16, u8, u8, u32);

/// linux/filter.h and linux/bpf_common.h.
const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;
/// Offsets in `struct seccomp_data` (linux/seccomp.h). All architectures below are little-endian: the low half of an
/// argument comes first. The kernel takes no more than that of an `int`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;
/// linux/seccomp.h.
const SECCOMP_RET_ALLOW: u32 = 0x7fff_0000;
const SECCOMP_RET_ERRNO: u32 = 0x0005_0000;
/// asm-generic/errno.h, the same on all architectures below.
const ENOSYS: u32 = 38;
const EAFNOSUPPORT: u32 = 97;
/// linux/socket.h.
const AF_VSOCK: u32 = 40;
/// The same on every architecture, as all calls since Linux 5.1 are.
const IO_URING_SETUP: u32 = 425;
/// x32 calls have the architecture of x86-64 and this bit in their number (asm/unistd.h).
const X32_BIT: u32 = 0x4000_0000;

/// Where an architecture has these calls.
struct Numbers {
    /// AUDIT_ARCH_… of linux/audit.h.
    architecture: u32,
    /// What to ignore of a number.
    ignored: u32,
    /// add_key, request_key and keyctl, in some order.
    keys: [u32; 3],
    socket: u32,
}

/// Those that one of our builds, or a process of it, can have; the usual one first.
const ARCHITECTURES: [Numbers; 5] = [
    Numbers { architecture: 0xc000_003e, ignored: X32_BIT, keys: [248, 249, 250], socket: 41 }, // x86-64
    Numbers { architecture: 0x4000_0003, ignored: 0, keys: [286, 287, 288], socket: 359 },      // i386
    Numbers { architecture: 0xc000_00b7, ignored: 0, keys: [217, 218, 219], socket: 198 },      // aarch64
    Numbers { architecture: 0x4000_0028, ignored: 0, keys: [309, 310, 311], socket: 281 },      // 32-bit ARM
    Numbers { architecture: 0xc000_00f3, ignored: 0, keys: [217, 218, 219], socket: 198 },      // RISC-V, 64 bits
];

/// Where a jump leads.
#[derive(Clone, Copy)]
enum To {
    Next,
    Refuse,
    LookAtFamily,
    Allow,
}

/// What follows all blocks, at these places counted from its beginning. Calls of an architecture that is not in the table
/// fall through to its first instruction.
const TAIL: [Instruction; 5] = [
    (RETURN, 0, 0, SECCOMP_RET_ERRNO | ENOSYS),
    (LOAD_WORD, 0, 0, FIRST_ARGUMENT),
    (JUMP_EQUAL, 0, 1, AF_VSOCK),
    (RETURN, 0, 0, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
    (RETURN, 0, 0, SECCOMP_RET_ALLOW),
];

impl To {
    /// Counted from the beginning of `TAIL`.
    fn in_tail(self) -> Option<usize> {
        match self {
            To::Next => None,
            To::Refuse => Some(0),
            To::LookAtFamily => Some(1),
            To::Allow => Some(4),
        }
    }
}

/// The filter.
#[must_use]
pub fn program() -> Vec<Instruction> {
    let blocks: Vec<Vec<(u16, To, To, u32)>> = ARCHITECTURES.iter().map(block).collect();
    // One instruction loads the architecture, one before each block compares it.
    let tail = 1 + blocks.iter().map(|block| 1 + block.len()).sum::<usize>();
    let mut program = vec![(LOAD_WORD, 0, 0, ARCHITECTURE)];
    for (numbers, block) in ARCHITECTURES.iter().zip(blocks) {
        program.push((JUMP_EQUAL, 0, jump(block.len()), numbers.architecture));
        for (code, yes, no, value) in block {
            let here = program.len();
            let distance = |to: To| to.in_tail().map_or(0, |place| jump(tail + place - here - 1));
            program.push((code, distance(yes), distance(no), value));
        }
    }
    program.extend(TAIL);
    program
}

/// What is done with the calls of one architecture.
fn block(numbers: &Numbers) -> Vec<(u16, To, To, u32)> {
    let Numbers { architecture: _, ignored, keys, socket } = numbers;
    let first = keys.iter().min().copied().unwrap_or_default();
    let last = keys.iter().max().copied().unwrap_or_default();
    let mut block = vec![(LOAD_WORD, To::Next, To::Next, NUMBER)];
    if *ignored != 0 {
        block.push((AND, To::Next, To::Next, !ignored));
    }
    block.extend([
        (JUMP_EQUAL, To::LookAtFamily, To::Next, *socket),
        (JUMP_EQUAL, To::Refuse, To::Next, IO_URING_SETUP),
        (JUMP_GREATER_OR_EQUAL, To::Next, To::Allow, first),
        (JUMP_GREATER, To::Allow, To::Refuse, last),
    ]);
    block
}

/// The program is shorter than what a jump can leap over; a test sees to it that no jump is cut.
fn jump(instructions: usize) -> u8 {
    u8::try_from(instructions).unwrap_or(u8::MAX)
}
