"""Learning: from a dataset to a policy."""
