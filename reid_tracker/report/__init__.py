"""Answers about a video: who was there, when, for how long, and where."""
