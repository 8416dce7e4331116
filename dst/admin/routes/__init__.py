"""What there is to ask for: one table of routes, the values that answer, and the functions that make them."""
