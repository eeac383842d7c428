"""Encodings of what crosses from process to process: values, failures, code, and their digests."""
