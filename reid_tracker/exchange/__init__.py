"""Tracks in other programs' formats: annotation tools, tables; and back again."""
