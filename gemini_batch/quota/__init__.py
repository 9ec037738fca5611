"""How fast, and how much a day: the ledger decides, the gate waits.

`windows` one limit over one span, pure · `ledger` all limits of one model, pure · `memory` the ledger of one process · `gate` the
thin asyncio rim around it.
"""
