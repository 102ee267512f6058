#!/usr/bin/env bash
# Owns one cluster's place on this machine: its number, its directory and its cgroups. Usage: janitor.sh DIR PREFIX INTERFACE
#
# DIR.lock is held for as long as this runs; exits with 75 when another cluster holds it. What an earlier cluster in the
# same place left is removed first. Prints `ready`, then waits for the end of its standard input, which comes when the
# process that started the cluster ends, however that happened: the machines of the cluster end at the same moment, for
# the same reason. Then it removes what outlives them. Logs stay when DIR/keep-logs exists.
set -uo pipefail
dir=$1 prefix=$2 interface=$3
TEARDOWN_STEPS=600 # of 0.1 s

# A lock on a file that an earlier holder has removed holds nothing.
until [[ /proc/self/fd/9 -ef $dir.lock ]]; do
    mkdir -p "${dir%/*}"
    exec 9>"$dir.lock" || exit 1
    flock --nonblock 9 || exit 75
done

complain() {
    : >"$dir/keep-logs"
    printf 'janitor: %s\n' "$*" >&2
}

pause() { read -r -t 0.1 <> <(:); }

# The interface would go with the control plane's network namespace; but that lasts for minutes where a connection of its
# last processes waits for an answer from a machine that is gone.
remove_interface() {
    local step
    for ((step = 0; step < TEARDOWN_STEPS; step++)); do
        [[ -e /sys/class/net/$interface ]] || return 0
        ip link delete "$interface" 2>/dev/null || pause
    done
    complain "the interface $interface is still there"
}

# A cgroup can be removed once the last process in it is gone, children first.
remove_cgroups() {
    local step left
    for ((step = 0; step < TEARDOWN_STEPS; step++)); do
        find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -name "$prefix*" -type d -print0 2>/dev/null |
            xargs -0 -r -I@ find @ -depth -type d -delete 2>/dev/null
        left=$(find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -name "$prefix*" -type d 2>/dev/null)
        [[ -n $left ]] || return 0
        pause
    done
    complain "cgroups are still in use: $left"
}

remove_directory() {
    if [[ -e $dir/keep-logs ]]; then
        find "$dir" -mindepth 1 -maxdepth 1 ! -name logs ! -name keep-logs -exec rm -rf --one-file-system {} +
    else
        rm -rf --one-file-system "$dir"
    fi
}

remove_interface
remove_cgroups
rm -rf --one-file-system "$dir"
mkdir -p "$dir/logs"
chmod 700 "$dir"
echo ready
exec 2>"$dir/logs/janitor.log"
cat >/dev/null
remove_interface
remove_cgroups
remove_directory
rm -f "$dir.lock"
rmdir "${dir%/*}" 2>/dev/null || true
