"""The composition root: settings, manifests and a ledger that fit together, and an engine to work on them."""
