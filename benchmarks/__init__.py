"""
How fast DST is, next to its peers: C{python -m benchmarks}.

Real processes, real sockets, real files, C{fio} as the client of every server.
A number alone says little on a shared machine, so every server is measured in the same run, in interleaved
rounds, and what counts is the ratio of the medians.
"""
