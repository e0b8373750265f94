use std::collections::BTreeSet;

use super::*;

/// What a kernel would do with a call (net/core/filter.c, as far as this program goes).
fn verdict(program: &[Instruction], architecture: u32, number: u32, first_argument: u64) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let (code, yes, no, value) = program[at];
        let taken = |holds: bool| usize::from(if holds { yes } else { no });
        at += 1;
        match code {
            LOAD_WORD if value == NUMBER => accumulator = number,
            LOAD_WORD if value == ARCHITECTURE => accumulator = architecture,
            LOAD_WORD if value == FIRST_ARGUMENT => accumulator = u32::try_from(first_argument & 0xffff_ffff).unwrap(),
            AND => accumulator &= value,
            JUMP_EQUAL => at += taken(accumulator == value),
            JUMP_GREATER => at += taken(accumulator > value),
            JUMP_GREATER_OR_EQUAL => at += taken(accumulator >= value),
            RETURN => return value,
            other => panic!("instruction {other:#x} at {at}"),
        }
    }
}

const REFUSED: u32 = SECCOMP_RET_ERRNO | ENOSYS;
const NO_SUCH_FAMILY: u32 = SECCOMP_RET_ERRNO | EAFNOSUPPORT;
/// Copied by hand from the kernel's tables, not from `ARCHITECTURES`: name, AUDIT_ARCH, refused numbers, socket.
const KNOWN: [(&str, u32, [u32; 4], u32); 5] = [
    ("x86_64", 0xc000_003e, [248, 249, 250, 425], 41),
    ("i386", 0x4000_0003, [286, 287, 288, 425], 359),
    ("aarch64", 0xc000_00b7, [217, 218, 219, 425], 198),
    ("arm", 0x4000_0028, [309, 310, 311, 425], 281),
    ("riscv64", 0xc000_00f3, [217, 218, 219, 425], 198),
];

#[test]
fn every_number_of_every_architecture() {
    let program = program();
    for (name, architecture, refused, socket) in KNOWN {
        let bits: &[u32] = if name == "x86_64" { &[0, X32_BIT] } else { &[0] };
        for (bit, number) in bits.iter().flat_map(|bit| (0..=4096).map(move |number| (*bit, number))) {
            for family in [0, 1, 2, 10, 16, 17, 38, 39, 40, 41, 0xffff_ffff] {
                let expected = match number {
                    number if refused.contains(&number) => REFUSED,
                    number if number == socket && family == 40 => NO_SUCH_FAMILY,
                    _ => SECCOMP_RET_ALLOW,
                };
                let got = verdict(&program, architecture, bit | number, family);
                assert_eq!(got, expected, "{name}: {number} ({bit:#x}), family {family}");
            }
        }
        // The kernel ignores the upper half of an `int`.
        assert_eq!(verdict(&program, architecture, socket, 0xdead_beef_0000_0028), NO_SUCH_FAMILY, "{name}");
        // Numbers that no call has.
        for number in [0x8000_0000, 0xffff_ffff, 0x3fff_ffff] {
            assert_eq!(verdict(&program, architecture, number, 40), SECCOMP_RET_ALLOW, "{name}: {number:#x}");
        }
    }
}

#[test]
fn an_unknown_architecture_gets_no_call() {
    let known: BTreeSet<u32> = KNOWN.iter().map(|(_, architecture, ..)| *architecture).collect();
    // s390x, ppc64le, mips, and what is near the known ones.
    for unknown in [0x8000_0016, 0xc000_0015, 8, 0, 0xffff_ffff, 0xc000_003f, 0x4000_0002, 0xc000_00b6, 0x4000_0029] {
        assert!(!known.contains(&unknown));
        for number in 0..=1024 {
            assert_eq!(verdict(&program(), unknown, number, 0), REFUSED, "{unknown:#x}: {number}");
        }
    }
}

#[test]
fn this_build_is_for_a_known_architecture() {
    assert!(KNOWN.iter().any(|(name, ..)| *name == std::env::consts::ARCH), "{}", std::env::consts::ARCH);
}

/// What the kernel checks before it takes a program (bpf_check_classic).
#[test]
fn every_jump_stays_inside() {
    let program = program();
    for (at, (code, yes, no, _)) in program.iter().enumerate() {
        if [JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_OR_EQUAL].contains(code) {
            assert!(at + 1 + usize::from(*yes.max(no)) < program.len(), "{at}");
            assert!(*yes.max(no) < u8::MAX, "{at}: cut");
        }
    }
    assert!(program.len() < 64, "each instruction costs time at every start: {}", program.len());
    assert_eq!(program.last().map(|(code, ..)| *code), Some(RETURN));
}
