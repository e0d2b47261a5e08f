"""Datasets from saved files: rows with typed columns, and the formats that training reads."""
