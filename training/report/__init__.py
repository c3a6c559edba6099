"""The report after a training run."""
