//! Limits as the OCI spec has them.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxBlockIoBuilder, LinuxCpu, LinuxMemory, LinuxPids, LinuxPidsBuilder, LinuxResources,
    LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDevice, LinuxWeightDeviceBuilder,
};

use crate::{DeviceValue, Error, Resources};

/// A period of 100 ms, the kernel's default, in microseconds: `--cpus` is expressed in it.
const CPU_PERIOD: u64 = 100_000;
const NANO: i64 = 1_000_000_000;

/// The limits in OCI form, without device rules: also for updates of a running container.
pub fn resources(limits: &Resources) -> Result<LinuxResources, Error> {
    let mut oci = LinuxResources::default();
    oci.set_memory(Some(memory(limits)));
    oci.set_cpu(Some(cpu(limits)));
    oci.set_pids(pids(limits)?);
    oci.set_block_io(block_io(limits)?);
    Ok(oci)
}

fn memory(limits: &Resources) -> LinuxMemory {
    let positive = |value: Option<i64>| value.filter(|value| *value > 0);
    let mut memory = LinuxMemory::default();
    memory.set_limit(positive(limits.memory));
    memory.set_reservation(positive(limits.memory_reservation));
    // Docker leaves out -1 at a start (no limit is the default), but an update must be able to lift the limit.
    memory.set_swap(limits.memory_swap.filter(|swap| *swap != 0));
    memory.set_swappiness(limits.memory_swappiness.and_then(|value| u64::try_from(value).ok()));
    memory.set_disable_oom_killer(limits.oom_kill_disable.then_some(true));
    memory
}

fn cpu(limits: &Resources) -> LinuxCpu {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(limits.cpu_shares.and_then(|shares| u64::try_from(shares).ok()).filter(|shares| *shares != 0));
    cpu.set_cpus(limits.cpuset_cpus.clone().filter(|cpus| !cpus.is_empty()));
    cpu.set_mems(limits.cpuset_mems.clone().filter(|mems| !mems.is_empty()));
    if let Some(nano) = limits.nano_cpus.filter(|nano| *nano > 0) {
        cpu.set_period(Some(CPU_PERIOD));
        cpu.set_quota(Some((i128::from(nano) * i128::from(CPU_PERIOD) / i128::from(NANO)) as i64));
    }
    if let Some(period) = limits.cpu_period.and_then(|period| u64::try_from(period).ok()).filter(|period| *period != 0)
    {
        cpu.set_period(Some(period));
    }
    if let Some(quota) = limits.cpu_quota.filter(|quota| *quota != 0) {
        cpu.set_quota(Some(quota));
    }
    cpu.set_realtime_period(limits.cpu_realtime_period.filter(|period| *period != 0));
    cpu.set_realtime_runtime(limits.cpu_realtime_runtime.filter(|runtime| *runtime != 0));
    cpu
}

/// Zero and negative numbers lift the limit.
fn pids(limits: &Resources) -> Result<Option<LinuxPids>, Error> {
    let Some(limit) = limits.pids_limit else { return Ok(None) };
    let limit = if limit <= 0 { -1 } else { limit };
    Ok(Some(LinuxPidsBuilder::default().limit(limit).build()?))
}

fn block_io(limits: &Resources) -> Result<Option<LinuxBlockIo>, Error> {
    let nothing = limits.blkio_weight.is_none()
        && [
            &limits.blkio_weight_device,
            &limits.device_read_bps,
            &limits.device_write_bps,
            &limits.device_read_iops,
            &limits.device_write_iops,
        ]
        .iter()
        .all(|list| list.is_empty());
    if nothing {
        return Ok(None);
    }
    let mut io = LinuxBlockIoBuilder::default()
        .weight_device(limits.blkio_weight_device.iter().map(weight).collect::<Result<Vec<_>, _>>()?)
        .throttle_read_bps_device(rates(&limits.device_read_bps)?)
        .throttle_write_bps_device(rates(&limits.device_write_bps)?)
        .throttle_read_iops_device(rates(&limits.device_read_iops)?)
        .throttle_write_iops_device(rates(&limits.device_write_iops)?)
        .build()?;
    io.set_weight(limits.blkio_weight.filter(|weight| *weight != 0));
    Ok(Some(io))
}

fn weight(device: &DeviceValue) -> Result<LinuxWeightDevice, Error> {
    let weight = u16::try_from(device.value).unwrap_or(u16::MAX);
    Ok(LinuxWeightDeviceBuilder::default().major(device.major).minor(device.minor).weight(weight).build()?)
}

fn rates(devices: &[DeviceValue]) -> Result<Vec<LinuxThrottleDevice>, Error> {
    let rate = |device: &DeviceValue| {
        LinuxThrottleDeviceBuilder::default().major(device.major).minor(device.minor).rate(device.value).build()
    };
    Ok(devices.iter().map(rate).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(limits: Resources, expect: serde_json::Value) {
        assert_eq!(serde_json::to_value(resources(&limits).unwrap()).unwrap(), expect);
    }

    #[test]
    fn unset_is_left_out_and_nano_cpus_become_a_quota() {
        check(Resources::default(), serde_json::json!({"memory": {}, "cpu": {}}));
        check(
            Resources { nano_cpus: Some(1_500_000_000), pids_limit: Some(0), ..Resources::default() },
            serde_json::json!({"memory": {}, "cpu": {"period": 100_000, "quota": 150_000}, "pids": {"limit": -1}}),
        );
        check(
            Resources {
                memory: Some(1 << 26),
                memory_swap: Some(-1),
                cpu_shares: Some(0),
                cpuset_cpus: Some(String::new()),
                ..Resources::default()
            },
            serde_json::json!({"memory": {"limit": 1 << 26, "swap": -1}, "cpu": {}}),
        );
    }
}
