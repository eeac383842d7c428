"""The pure core: what the log means. No I/O, clock, randomness or threads."""
