"""A pool to batches: data module, samplers, encoders of LLaVA and of chat models."""
