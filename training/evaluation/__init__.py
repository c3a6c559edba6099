"""Evaluation: what a policy brings, on queries that it has not seen and by others' logs."""
