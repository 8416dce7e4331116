"""
DST: one dependable block device out of several undependable ones.

A *storage* stands on local and remote *nodes* through an *algorithm*, and is
itself a block device, so it can be exported again as a node of another
storage.  Start reading at L{dst.interfaces}.
"""

__version__ = "0.2.0"
