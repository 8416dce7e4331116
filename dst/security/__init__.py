"""
Who is at the other end: certificates, the authority that makes them, TLS, and how a machine joins.
"""
