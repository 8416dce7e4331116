"""
GlusterFS with three copies, in network, mount and process namespaces of its own.

Nothing of it is seen outside but the UNIX socket that it is measured through, and everything ends with the first
process.  It is reached by the gfapi driver of QEMU, as an NBD export of C{qemu-storage-daemon}: that of fio 3.33
crashes with GlusterFS 10.  Write-behind is off: with it a write is answered before any brick has it, which no other
server here does.
"""

from __future__ import annotations

import os
import time
from glob import glob
from pathlib import Path

from benchmarks.processes import Failed, Processes
from benchmarks.subjects import Kind, Served

__all__ = ["GLUSTER"]

START_S_MAX = 60.0
"""The volume, and a file on it: making the latter takes ten seconds by itself."""

_SCRIPT = """
set -e
# Its own programs in Python find nothing beside them otherwise, and a volume never starts.
unset PYTHONPATH PYTHONSAFEPATH PYTHONHOME
trap 'exit 0' TERM INT
place=$1
size=$2
mkdir "$place/lib" "$place/log" "$place/brick-a" "$place/brick-b" "$place/brick-c"
mount -t tmpfs none /run
mkdir -p /run/gluster /run/lock /var/lib/glusterd /var/log/glusterfs
mount --bind "$place/lib" /var/lib/glusterd
mount --bind "$place/log" /var/log/glusterfs
mkdir /var/lib/glusterd/groups
ip link set lo up
ip address add 192.0.2.1/32 dev lo
glusterd -N &
until gluster --mode=script volume list >/dev/null 2>&1; do sleep 0.2; done
gluster --mode=script volume create vol replica 3 \\
    "192.0.2.1:$place/brick-a" "192.0.2.1:$place/brick-b" "192.0.2.1:$place/brick-c" force
gluster --mode=script volume set vol performance.write-behind off
gluster --mode=script volume start vol
tries=0
until qemu-img create -q -f raw gluster://192.0.2.1/vol/disk "$size"; do
    tries=$((tries + 1))
    [ $tries -lt 5 ]
    sleep 1
done
server=server.0.type=inet,server.0.host=192.0.2.1,server.0.port=24007
qemu-storage-daemon --blockdev "driver=gluster,node-name=vol,volume=vol,path=disk,$server" \\
    --nbd-server "addr.type=unix,addr.path=$place/nbd.sock" \\
    --export type=nbd,id=vol,node-name=vol,name=vol,writable=on &
wait $!
"""


def _refusal() -> str:
    if os.geteuid() != 0:
        return "its namespaces need root"
    if not glob("/usr/lib*/qemu/block-gluster.so") + glob("/usr/lib*/*/qemu/block-gluster.so"):
        return "QEMU's driver for it is not installed (Debian: qemu-block-extra)"
    return ""


def _gluster(processes: Processes, place: Path, size: int, name: str) -> Served:
    script = place / "start.sh"
    script.write_text(_SCRIPT)
    namespaces = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    processes.start(name, "unshare", *namespaces, "sh", script, place, str(size))
    socket = place / "nbd.sock"
    end = time.monotonic() + START_S_MAX
    while not socket.exists():
        processes.check(name)
        if time.monotonic() > end:
            raise Failed(f"{name} does not serve after {START_S_MAX:g} s{processes.last_words(name)}")
        time.sleep(0.1)
    return Served(socket, "vol", [name])


GLUSTER = Kind(
    "GlusterFS",
    False,
    ("glusterd", "gluster", "qemu-storage-daemon", "qemu-img", "unshare", "ip"),
    _gluster,
    refusal=_refusal,
)
"""Replica 3."""
