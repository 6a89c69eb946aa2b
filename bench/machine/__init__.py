"""What it runs on: identity, full record, counters, probes of its noise, and the lock of one measurement at a time."""
