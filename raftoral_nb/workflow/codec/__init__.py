"""What crosses from process to process as bytes: values, failures, code, and their digests."""
