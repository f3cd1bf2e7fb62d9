"""A deterministic simulation of the whole money path: people, gateway, queue, media, crashes on one seeded clock.

The services, the workers' functions, the relay, the meter and the database are the real ones; what is outside
of them (people, network, processes, the payment provider) is played from one seed. ``python -m simulation``
plays it; docs/simulation.md says what is checked. Nothing imports this package but its own tests.
"""
