#!/usr/bin/env bash
# The first process of a machine of the cluster, in fresh network, mount and PID namespaces. Usage: machine.sh DIR
#
# Its end is the machine's end: the kernel then kills all other processes in it and drops its mounts, interfaces and
# nftables. It ends when its standard input does. As every first process it inherits orphans; bash reaps them.
set -euo pipefail
dir=$1

# Directories of the machine's own over the shared root: an overlay where programs expect what the distribution put
# there, a real directory where an overlay will not do (container file systems, or files changed from outside).
for path in /etc /opt /var/lib /var/log; do
    [[ -d $path ]] || continue
    rm -rf "$dir/work$path"
    mkdir -p "$dir/overlay$path" "$dir/work$path"
    # Volatile: its end need not wait until the real disk has all.
    mount -t overlay overlay -o "lowerdir=$path,upperdir=$dir/overlay$path,workdir=$dir/work$path,volatile" "$path"
done
mount -t tmpfs -o mode=755 tmpfs /run
for path in /etc/containerd /etc/cni /etc/kubernetes /var/lib/containerd /var/lib/kubelet /var/lib/cni /var/log/pods \
    /var/log/containers; do
    mkdir -p "$dir/root$path" "$path"
    mount --bind "$dir/root$path" "$path"
done
# How much a cache keeps follows its file system, and must not follow how full this machine's disk happens to be. Of memory,
# because loop devices are few: a power cut empties it.
mkdir -p /var/lib/larder
mount -t tmpfs -o size=4g,mode=755 larder /var/lib/larder
for path in /etc/hosts /etc/resolv.conf; do
    mkdir -p "$dir/root${path%/*}"
    [[ -e $dir/root$path ]] || : >"$dir/root$path"
    rm -f "$path"
    : >"$path"
    mount --bind "$dir/root$path" "$path"
done

# What a kubelet would set for the whole kernel it shall only believe to have set.
mkdir -p "$dir/sysctl"
while read -r name value; do
    [[ -e /proc/sys/$name ]] || continue
    echo "$value" >"$dir/sysctl/${name//\//.}"
    mount --bind "$dir/sysctl/${name//\//.}" "/proc/sys/$name"
done <<'SYSCTL'
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
SYSCTL

# Mounts that kubelet and containerd make must be seen in pods.
mount --make-rshared /
ip link set lo up
# Those of this network namespace only.
echo 1 >/proc/sys/net/ipv4/ip_forward
echo ready
while read -r _; do :; done
