"""Measurements, each one command: `python -m benchmarks NAME`. The tables are in docs/performance.md."""
