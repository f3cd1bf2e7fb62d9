"""Where real money comes from: one protocol, one module a payment provider.

Both the web app (checkout) and the workers (polling) ask a gateway, always outside a transaction.
"""
