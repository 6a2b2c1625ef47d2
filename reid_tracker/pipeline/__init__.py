"""Video files from beginning to end: what is planned, one source, a batch of them, a stream."""
