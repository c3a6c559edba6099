"""A simulated provider and a workload with checkable answers: for the demo, tests and load."""
