"""The durable form of the log: chained records, the SQLite store, and data directories. In memory: `raft/journal`."""
