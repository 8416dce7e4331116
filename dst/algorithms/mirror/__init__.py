"""
The mirror: every member has the whole content, and ages tell who missed what.

Read the modules in this order: C{member} (what is known of one member),
C{configuration} (who is in sync, and how that is made to last), C{hot_set} (mark before
data, clear with proof), C{data_path} (reads and writes), C{starting} (from media to a
running storage), C{returning} and C{copying} (back into sync), C{serving} (these put together), C{mirror} (the face
of it all), C{by_hand} and C{telling} (what people do and see).
The rules R1 to R15 they name are those of C{docs/recovery.rst}.
"""

from dst.algorithms.mirror.mirror import Mirror
from dst.algorithms.mirror.provider import MirrorProvider
from dst.algorithms.mirror.serving import MirrorOptions

__all__ = ["Mirror", "MirrorOptions", "MirrorProvider"]
