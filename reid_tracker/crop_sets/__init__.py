"""Sets of crops of known people: what one is, and how they lie on the disk."""
