"""How copies are kept equal and made equal again.  Used by the algorithms."""
