"""Looking finished tracks over: the most doubtful decisions first, changes that can be undone, corrected results."""
