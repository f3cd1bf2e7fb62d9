"""The REST interface of docs/contract.md §3. Each module declares its calls through ``schema.Api``; a declaration
carries everything that is checked (who, body, idempotency, limits) and everything the reference says.

Must not decide anything about money or media: services do.
"""
