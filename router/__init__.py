"""Leadline: chooses the cheapest model and strategy that is good enough for each query."""
