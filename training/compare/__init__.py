"""Two policies on the same interactions."""
