"""The OpenAI-compatible HTTP edge: any client of theirs, with `model="auto"`."""
