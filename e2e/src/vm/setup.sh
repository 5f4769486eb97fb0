#!/bin/sh
# Run once by init: the mounts of a usual host, and the cgroup layout that the kernel's command line asks for.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:/vm/bin
mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
mount -t securityfs securityfs /sys/kernel/security
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
ln -sf /proc/self/fd /dev/fd
mkdir -p /run/vm
hostname machine
ip link set lo up
# As on a host with a service manager: mounts propagate.
mount --make-rshared /

controllers() {
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    for names in cpu,cpuacct cpuset memory pids devices freezer blkio hugetlb; do
        mkdir "/sys/fs/cgroup/$names"
        mount -t cgroup -o "$names" cgroup "/sys/fs/cgroup/$names"
    done
}
case " $(cat /proc/cmdline) " in
*" coracle.cgroups=v1 "*) controllers ;;
*) mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup ;;
esac
