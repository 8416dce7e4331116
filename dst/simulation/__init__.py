"""
Whole clusters on a virtual clock: the production code, and everything around it simulated.

C{python -m dst.simulation --seed N} lives one life and judges it; C{dst rehearse FILE} does so with a person's
own topology.
"""
