"""How well it went: MOT metrics and retrieval metrics."""
