"""What runner is measured by; each is one command: `python -m benchmarks NAME`."""
