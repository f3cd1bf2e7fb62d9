"""The messages that processes send each other, and the ones that browsers and the media node exchange.

Each is its own frozen type. Part of the shelf: standard library and msgspec only.
"""
