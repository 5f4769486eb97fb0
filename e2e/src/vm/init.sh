#!/bin/busybox sh
# The first process, from the initramfs: loads the modules, mounts the disk and goes on from there.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r name; do
    insmod "/modules/$name.ko" || echo "module $name was not loaded"
done </modules/order
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -b /dev/vda ] && break
    sleep 0.2
done
mount -t ext4 /dev/vda /disk || { echo "the disk was not mounted"; poweroff -f; }
if grep -q coracle.root=initramfs /proc/cmdline; then
    # This stays the root: what is on the disk is reached by links.
    for path in /disk/*; do
        name="${path##*/}"
        [ -e "/$name" ] || ln -s "$path" "/$name"
    done
    cp -r /disk/etc/* /etc/
    exec /bin/busybox init
fi
umount /proc
mount --move /dev /disk/dev
umount /sys
exec /bin/busybox switch_root /disk /vm/busybox init
