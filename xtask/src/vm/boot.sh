#!/bin/busybox sh
# The first program of the test machine: reaches the disk, unpacks the tests onto it, goes over to them.
/bin/busybox mkdir -p /root /dev
/bin/busybox mount -t devtmpfs devtmpfs /dev
#MODULES
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox tar -xf /dev/vdb -C /root
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /guest.sh
