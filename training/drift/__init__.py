"""Drift: what moved since the active policy was trained."""
