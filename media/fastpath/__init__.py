"""The hot path in C: ``fastpath.h`` is all its interface, ``engine.py`` that in Python; ``build.py`` makes it."""
