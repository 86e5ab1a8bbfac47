//! Architectures: the machine, the ABIs its kernel runs, and how their calls look to a filter.

use oci_spec::runtime::Arch;

/// A machine that filters can be compiled for. All of these are little-endian, as the programs assume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// 64-bit x86, which also runs i386 and x32 programs.
    X86_64,
    /// 64-bit ARM, which also runs 32-bit ARM programs.
    Aarch64,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Machine {
    /// The machine this program was built for.
    pub fn host() -> Option<Self> {
        Self::parse(std::env::consts::ARCH)
    }

    /// A machine by its name in uname(2).
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "x86_64" => Self::X86_64,
            "aarch64" => Self::Aarch64,
            "riscv64" => Self::Riscv64,
            _ => return None,
        })
    }

    /// The ABI of the machine's own programs.
    pub(crate) fn native(self) -> Abi {
        match self {
            Self::X86_64 => Abi::X86_64,
            Self::Aarch64 => Abi::Aarch64,
            Self::Riscv64 => Abi::Riscv64,
        }
    }

    /// The ABI that an OCI name means on this machine; `None` for those of other machines, whose calls can't occur.
    pub(crate) fn abi(self, arch: Arch) -> Option<Abi> {
        match (self, arch) {
            (_, Arch::ScmpArchNative) => Some(self.native()),
            (Self::X86_64, Arch::ScmpArchX86_64) => Some(Abi::X86_64),
            (Self::X86_64, Arch::ScmpArchX86) => Some(Abi::I386),
            (Self::X86_64, Arch::ScmpArchX32) => Some(Abi::X32),
            (Self::Aarch64, Arch::ScmpArchAarch64) => Some(Abi::Aarch64),
            (Self::Aarch64, Arch::ScmpArchArm) => Some(Abi::Arm),
            (Self::Riscv64, Arch::ScmpArchRiscv64) => Some(Abi::Riscv64),
            _ => None,
        }
    }
}

/// A set of system calls with its numbers and calling convention. The value is the column in the table of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Abi {
    X86_64 = 0,
    X32 = 1,
    I386 = 2,
    Aarch64 = 3,
    Arm = 4,
    Riscv64 = 5,
}

/// Marks the numbers of x32 calls, which otherwise look like those of x86_64.
pub(crate) const X32_BIT: u32 = 1 << 30;
/// Where ARM's private calls begin (`__ARM_NR_BASE`).
pub(crate) const ARM_PRIVATE: u32 = 0xf_0000;

impl Abi {
    /// `AUDIT_ARCH_*`, as a filter sees it.
    pub(crate) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
        }
    }

    /// Arguments have 32 bits only. x32 passes whole registers.
    pub(crate) fn narrow(self) -> bool {
        matches!(self, Self::I386 | Self::Arm)
    }

    /// Where the number space of this ABI begins.
    pub(crate) fn base(self) -> u32 {
        if self == Self::X32 { X32_BIT } else { 0 }
    }
}
