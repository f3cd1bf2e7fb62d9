"""``make chaos``: the real processes under load while each of them, RabbitMQ and PostgreSQL are killed at random.

An outside client like ``demo``: nothing imports it. Afterwards everything is left to drain, and the books,
the sessions, the requests and the dead letters have to be as docs/money.md promises.
"""
