"""One file for each task that is more than a call."""
