"""The gate: whether a candidate may reach traffic."""
