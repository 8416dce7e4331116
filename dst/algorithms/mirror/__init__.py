"""
The mirror: every member has the whole content, and ages tell who missed what.

Read the modules in this order: C{member} (what is known of one member),
C{configuration} (who is in sync, and how that is made to last), C{hot_set} (mark before
data, clear with proof), C{data_path} (reads and writes), C{starting} (from media to a
running storage), C{returning} (back into sync), C{mirror} (the face of it all).
The rules R1 to R15 they name are those of C{docs/recovery.rst}.
"""

from dst.algorithms.mirror.mirror import Mirror, MirrorOptions
from dst.algorithms.mirror.provider import MirrorProvider

__all__ = ["Mirror", "MirrorOptions", "MirrorProvider"]
