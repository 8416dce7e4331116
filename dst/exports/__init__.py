"""How devices are served: over the DST wire protocol and over NBD."""
