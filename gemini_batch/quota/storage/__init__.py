"""Storages of the ledger: one process, or a file that all processes of a machine share."""
