"""How fast, and how much a day: the ledger decides, the gate waits.

Pure: `windows` one limit over one span · `bounds` limits as numbers and words · `ledger` all limits of one model · `wall` which
time to believe. `memory` the ledger of one process · `sqlite` the one that processes share, with its `rows`, its `statefile`, the
`turnstile` before it and the words for its `faults` · `gate` the thin asyncio rim around both.
"""
