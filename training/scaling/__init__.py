"""Scaling laws: what more inference compute buys, per model and strategy."""
