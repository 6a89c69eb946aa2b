"""Whether an arm computes the right vectors, judged before any time is shown."""
