"""Places in the picture, lines and zones: kept in a file, drawn on a page."""
