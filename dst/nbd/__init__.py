"""The NBD protocol as values and bytes, both sides: no socket, no clock."""
