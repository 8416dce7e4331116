"""
A topology as a script: C{twistd -n dst --topology examples/mirror.py}.

The same expressions build a running storage inside a test; C{test/examples/test_examples.py} does.
"""

from dst.cluster import topology as t


def volume(directory: str = "mirror", copies: int = 2, size: str = "64M") -> t.Device:
    """A mirror of files in one directory."""
    return t.mirror("vol", *(t.file(f"{directory}/n{number}.img", size=size) for number in range(copies)))


topology = t.topology(
    t.export(volume()),
    state_dir="mirror/state",
    admin="tcp:7480:interface=127.0.0.1",
    nbd="tcp:10809:interface=127.0.0.1",
)
