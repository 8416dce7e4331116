"""
From a topology, as values, to running nodes, storages and exports.

A script takes what it describes with from L{dst.cluster.topology} (C{mirror}, C{file}, ...) and
L{dst.cluster.assembly.running} to run it.
"""
