"""Learns policies from the log of decisions and outcomes."""
