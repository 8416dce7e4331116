"""
C{dst demo}: the story of a mirror, told with real processes.

C{stage} has the directory and the processes, C{load} the client that knows what it wrote, C{story} what happens and
what has to be true then, C{telling} how it is shown.
"""
