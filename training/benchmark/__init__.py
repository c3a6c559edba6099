"""The benchmark: Leadline and its rivals on queries that none of them has seen."""
