"""A training run: its stages, its place in the book, and how it begins."""
