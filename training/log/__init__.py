"""Outcome logs: read, checked, split, as arrays."""
