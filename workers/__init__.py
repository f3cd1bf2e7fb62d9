"""What happens without anybody waiting: facts from media, rules, polling, deadlines, delivery.

Thin: a worker takes ids, calls a service in one transaction and tolerates repeats. It decides nothing
that a service could decide, and imports neither ``web`` nor ``media``.
"""
