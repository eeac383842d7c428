"""The durable form of the log: chained records, the SQLite store, and data directories."""
