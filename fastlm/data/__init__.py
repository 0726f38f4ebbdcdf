"""Text to batches: preparing, the token store, masking, batching, the demo corpus."""
