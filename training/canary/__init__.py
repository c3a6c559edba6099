"""The canary: a share of traffic on which a candidate is held against the active policy."""
