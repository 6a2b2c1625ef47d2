"""Frames in (files, folders, streams) and results out (video, MOT text, JSON lines, crops)."""
