"""What is true: tables, state machines, ledger, rules and the services that change them.

Knows nothing of HTTP, queues or media. The modules ``config errors ids clock log timing grants`` and
the package ``messages`` are the shelf: they need the standard library and msgspec alone, and are all
that the media process may import.
"""
