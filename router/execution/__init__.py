"""Execution: arms are run against backends, each within an allowance."""
