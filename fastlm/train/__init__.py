"""Training: trainer, optimizer, schedule, checkpoints, metrics, charts."""
