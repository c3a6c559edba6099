"""The policy: pure functions and values from a query's context to a choice of arm.

Nothing in this room does I/O, reads a clock or settings, or draws global random numbers.
"""
