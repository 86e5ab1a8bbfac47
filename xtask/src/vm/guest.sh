#!/bin/sh
# The test machine's first process on its disk: mounts what a host has and the control groups that the kernel's command line
# asks for, runs each suite of /suites, powers off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
trap 'sync; echo o > /proc/sysrq-trigger; sleep 60' EXIT
mount -t proc proc /proc
mount -t sysfs sysfs /sys
# Where profiles of AppArmor are loaded.
mount -t securityfs securityfs /sys/kernel/security
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
# Without a terminal's name the tests print no colours.
unset TERM
# A limit such as service managers set for an engine.
ulimit -n 65536
ip link set lo up
hostname vm
for module in overlay veth bridge br_netfilter nf_tables bfq; do modprobe "$module"; done
uname -a
cgroup=$(sed -n 's/.*corten.cgroup=\([^ ]*\).*/\1/p' /proc/cmdline)
if [ "$cgroup" = v2 ]; then
    mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
    # What a service manager does; a group's controllers are those that its parent gives.
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control
    done
else
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    for controller in $(sed -n 's/^\([a-z_]*\)\t.*\t1$/\1/p' /proc/cgroups); do
        mkdir "/sys/fs/cgroup/$controller"
        mount -t cgroup -o "$controller" "$controller" "/sys/fs/cgroup/$controller"
    done
    if [ "$cgroup" = hybrid ]; then
        mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
        mount -t cgroup -o none,name=systemd systemd /sys/fs/cgroup/systemd
        mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
    fi
fi
# The disk has a scheduler with weights, and there is swap to be limited.
echo bfq > /sys/block/vda/queue/scheduler
dd if=/dev/zero of=/swap bs=1M count=256 status=none && chmod 600 /swap && mkswap -q /swap && swapon /swap
cat /proc/self/mountinfo | grep cgroup
# Software emulation is no place to measure speed.
while read -r name directory executable; do
    mkdir -p "$(dirname "$executable")/../../tmp"
    echo "@@ begin $name"
    (cd "$directory" && exec timeout 900 "$executable" --show-output --skip=speed:: </dev/null 2>&1)
    echo "@@ end $name $?"
done < /suites
echo "@@ done"
