"""Fairness: what each slice gets, and whether a candidate takes from any."""
