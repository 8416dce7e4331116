"""
The NBD protocol without a network: bytes in, values out, and back; both sides.

  - L{dst.nbd.constants}: the numbers.
  - L{dst.nbd.server_handshake}, L{dst.nbd.client_handshake}: agreeing on an export.
  - L{dst.nbd.requests}: the server's side of the transmission phase.
  - L{dst.nbd.replies}: the client's side of it.
  - L{dst.nbd.errno}: errors.
"""
