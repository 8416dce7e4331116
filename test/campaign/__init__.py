"""
The crash campaign: real daemons under load, killed, stopped and cut off hundreds of times, and every block
checked after each round.

C{python -m test.campaign --rounds 500}, or C{make crash}.  See C{docs/crash-campaign.rst}.
"""
