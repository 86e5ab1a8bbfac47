//! Limits as values, and how they are read from an OCI document.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxDeviceCgroup, LinuxDeviceType, LinuxResources, LinuxThrottleDevice, LinuxWeightDevice,
};

use crate::{Error, Result};

/// Everything that can be set on a group; `None` and empty leave the present value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory; -1 is no limit.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together, also on v2, where swap alone is written; -1 is no limit.
    pub memory_swap: Option<i64>,
    /// Bytes below which memory is spared.
    pub memory_reservation: Option<i64>,
    /// v2: refuse a limit at or below what is used now, instead of killing for it. v1 does so by itself.
    pub memory_check_before_update: bool,
    /// v1 only.
    pub memory_swappiness: Option<u64>,
    /// v1 only.
    pub oom_kill_disable: bool,
    /// Weight in v1's terms: 2 to 262144, 1024 is the default.
    pub cpu_shares: Option<u64>,
    /// Microseconds per period; negative is no limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds above the quota that may be saved up.
    pub cpu_burst: Option<u64>,
    /// Runs only when nothing else does (1) or not (0).
    pub cpu_idle: Option<i64>,
    /// v1 only.
    pub cpu_realtime_runtime: Option<i64>,
    /// v1 only.
    pub cpu_realtime_period: Option<u64>,
    /// CPUs in the kernel's list format.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes likewise.
    pub cpuset_mems: Option<String>,
    /// Number of tasks; negative is no limit, 0 is not set.
    pub pids: Option<i64>,
    /// Device rules in order; `None` leaves the devices alone.
    pub device_rules: Option<Vec<DeviceRule>>,
    /// Weights and rates of block devices.
    pub blkio: BlockIo,
    /// Limits of huge pages.
    pub hugepages: Vec<HugepageLimit>,
    /// v1's network class.
    pub network_class: Option<u32>,
    /// v1's priorities of interfaces.
    pub network_priorities: Vec<(String, u32)>,
    /// Devices of RDMA with handles and objects.
    pub rdma: Vec<(String, Option<u32>, Option<u32>)>,
    /// Files of v2 and what to write to them.
    pub unified: BTreeMap<String, String>,
}

/// One rule on devices; later rules go over earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// Which devices.
    pub kind: DeviceKind,
    /// `None` is every number.
    pub major: Option<u32>,
    /// `None` is every number.
    pub minor: Option<u32>,
    /// Letters of `rwm`.
    pub access: String,
}

/// Kind of device that a rule speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKind {
    /// Both kinds; the rule then counts for all numbers and all accesses.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// Weights (10 to 1000) and rates (per second) of block devices as major, minor, value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct BlockIo {
    pub weight: Option<u16>,
    pub weight_devices: Vec<(i64, i64, u64)>,
    /// Against the groups below. v1 only, and of a scheduler that left Linux with 5.0: the kernel's refusal is told.
    pub leaf_weight: Option<u16>,
    pub leaf_weight_devices: Vec<(i64, i64, u64)>,
    pub read_bps: Vec<(i64, i64, u64)>,
    pub write_bps: Vec<(i64, i64, u64)>,
    pub read_iops: Vec<(i64, i64, u64)>,
    pub write_iops: Vec<(i64, i64, u64)>,
}

/// A limit of one size of huge pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugepageLimit {
    /// Such as `2MB`, as the kernel's files have it.
    pub size: String,
    /// Bytes; negative is no limit.
    pub limit: i64,
}

impl HugepageLimit {
    /// The size becomes a part of a file's name.
    pub(crate) fn check(&self) -> Result<()> {
        let number = self.size.strip_suffix("KB").or(self.size.strip_suffix("MB")).or(self.size.strip_suffix("GB"));
        let plain = number.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
        if plain { Ok(()) } else { Err(Error::Limit(format!("invalid size of huge pages {:?}", self.size))) }
    }
}

impl From<&LinuxResources> for Limits {
    fn from(oci: &LinuxResources) -> Self {
        let mut limits = Self {
            device_rules: oci.devices().as_ref().map(|rules| rules.iter().map(DeviceRule::from).collect()),
            pids: oci.pids().as_ref().map(|pids| pids.limit()),
            blkio: oci.block_io().as_ref().map(BlockIo::from).unwrap_or_default(),
            unified: oci.unified().iter().flatten().map(|(file, value)| (file.clone(), value.clone())).collect(),
            ..Self::default()
        };
        if let Some(memory) = oci.memory() {
            limits.memory = memory.limit();
            limits.memory_swap = memory.swap();
            limits.memory_reservation = memory.reservation();
            limits.memory_check_before_update = memory.check_before_update().unwrap_or(false);
            limits.memory_swappiness = memory.swappiness();
            limits.oom_kill_disable = memory.disable_oom_killer().unwrap_or(false);
        }
        if let Some(cpu) = oci.cpu() {
            limits.cpu_shares = cpu.shares();
            limits.cpu_quota = cpu.quota();
            limits.cpu_period = cpu.period();
            limits.cpu_burst = cpu.burst();
            limits.cpu_idle = cpu.idle();
            limits.cpu_realtime_runtime = cpu.realtime_runtime();
            limits.cpu_realtime_period = cpu.realtime_period();
            limits.cpuset_cpus = cpu.cpus().clone();
            limits.cpuset_mems = cpu.mems().clone();
        }
        let pages = oci.hugepage_limits().iter().flatten();
        limits.hugepages = pages.map(|it| HugepageLimit { size: it.page_size().clone(), limit: it.limit() }).collect();
        if let Some(network) = oci.network() {
            limits.network_class = network.class_id();
            let priorities = network.priorities().iter().flatten();
            limits.network_priorities = priorities.map(|it| (it.name().clone(), it.priority())).collect();
        }
        let rdma = oci.rdma().iter().flatten();
        limits.rdma = rdma.map(|(name, it)| (name.clone(), it.hca_handles(), it.hca_objects())).collect();
        limits
    }
}

impl From<&LinuxDeviceCgroup> for DeviceRule {
    fn from(oci: &LinuxDeviceCgroup) -> Self {
        // -1 is every number. One that no device can have must not become that: it stays one that no device has.
        let number = |number: Option<i64>| match number {
            None | Some(-1) => None,
            Some(number) => Some(u32::try_from(number).unwrap_or(u32::MAX)),
        };
        Self {
            allow: oci.allow(),
            kind: match oci.typ() {
                None | Some(LinuxDeviceType::A) => DeviceKind::All,
                Some(LinuxDeviceType::B) => DeviceKind::Block,
                // Unbuffered character devices and pipes don't occur in rules; the kernel knows two kinds.
                Some(LinuxDeviceType::C | LinuxDeviceType::U | LinuxDeviceType::P) => DeviceKind::Char,
            },
            major: number(oci.major()),
            minor: number(oci.minor()),
            access: oci.access().clone().filter(|access| !access.is_empty()).unwrap_or_else(|| "rwm".to_owned()),
        }
    }
}

impl From<&LinuxBlockIo> for BlockIo {
    fn from(oci: &LinuxBlockIo) -> Self {
        let rates = |list: &Option<Vec<LinuxThrottleDevice>>| {
            list.iter().flatten().map(|it| (it.major(), it.minor(), it.rate())).collect()
        };
        let weights = |of: fn(&LinuxWeightDevice) -> Option<u16>| {
            let weight = |it| of(it).filter(|it| *it != 0).map(|weight| (it.major(), it.minor(), u64::from(weight)));
            oci.weight_device().iter().flatten().filter_map(weight).collect()
        };
        Self {
            weight: oci.weight().filter(|weight| *weight != 0),
            weight_devices: weights(LinuxWeightDevice::weight),
            leaf_weight: oci.leaf_weight().filter(|weight| *weight != 0),
            leaf_weight_devices: weights(LinuxWeightDevice::leaf_weight),
            read_bps: rates(oci.throttle_read_bps_device()),
            write_bps: rates(oci.throttle_write_bps_device()),
            read_iops: rates(oci.throttle_read_iops_device()),
            write_iops: rates(oci.throttle_write_iops_device()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers() {
        let major = |number: Option<i64>| {
            let mut rule = LinuxDeviceCgroup::default();
            rule.set_typ(Some(LinuxDeviceType::C)).set_major(number);
            DeviceRule::from(&rule).major
        };
        assert_eq!([None, Some(-1), Some(7)].map(major), [None, None, Some(7)]);
        assert_eq!([Some(-2), Some(1 << 32)].map(major), [Some(u32::MAX); 2]);
    }
}
