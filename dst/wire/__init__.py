"""The DST wire protocol as values and bytes: no socket, no clock.  Specified in C{docs/specifications/wire.rst}."""
