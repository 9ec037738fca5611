"""Rate limits: the ledger decides, the limiter waits.

Pure: `windows` and `days` count one limit · `limits` · `uses` by runs of equal limits ·
`model_quota` decides on all limits of one model. `shared` is the ledger on any `storage`, `status`
shows it, and `limiter` is its asyncio side.
"""
