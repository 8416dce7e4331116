"""How people run it: REST, its client, the C{dst} command, the web page."""
