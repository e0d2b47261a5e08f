"""Whole nights in virtual time: the real ledger, policies, steps and engine before a model of the server.

`python -m tests.simulation --help` says how to run many nights, or one again.
"""
