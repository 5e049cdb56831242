"""Training: configuration, data, losses, the loop, and freezing into a model for coding."""
