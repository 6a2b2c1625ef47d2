"""Tracking what does not wait: cameras and streams, for hours, with a page to watch."""
