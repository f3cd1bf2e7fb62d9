"""An outside client and what is made with it: the demo, the mock fan, hands for tests and benchmarks.

Speaks the public contract over the network like anybody else's client. ``demo.people`` alone, which makes
the demo accounts, calls the services.
"""

from __future__ import annotations

PASSWORD = "greenroom-demo"  # noqa: S105 (printed on purpose; demo mode listens on loopback only)
