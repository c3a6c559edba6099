"""Scores: from attempts and what was reported of them to a log that teaches."""
