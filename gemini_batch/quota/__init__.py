"""Rate limits: the ledger decides, the limiter waits.

Pure: `windows` and `days` count one limit · `limits` · `model_quota` decides on all limits of one
model, with `uses` by runs of equal limits. `shared` is the ledger on any `storage`, `status` shows it, and `limiter` is its
asyncio side.
"""
