"""
What is kept on a member's media, and what follows from it.

Specified in C{docs/specifications/label.rst}.
"""
