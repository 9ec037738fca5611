"""Rate limits: the ledger decides, the limiter waits.

Pure: `windows` and `days` count one limit · `limits` · `model_quota` decides on all limits of one
model. `shared` is the ledger on any `storage`; `limiter` is its asyncio side.
"""
