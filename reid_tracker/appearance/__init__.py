"""Appearance: the embedding network, crops, and the embedder that turns boxes into vectors."""
