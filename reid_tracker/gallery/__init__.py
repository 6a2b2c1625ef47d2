"""Identities that outlive a run: who was seen, in several views each, to be recognised in other videos and later."""
