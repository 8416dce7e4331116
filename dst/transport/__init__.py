"""Moving requests: sessions of many transactions over one connection, and how a broken one comes back."""
