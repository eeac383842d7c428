"""Consensus: the only place that knows PySyncObj.

Read `guard` first (what is mended, and why), then `replica` (how one node's Raft is driven by events), `proposer` (how a
command gets an outcome) and `member` (the three together with the replicated state). Votes and the log are PySyncObj's own
business, on messages that the guard lets pass; pre-votes are in `pre_vote`, snapshots in `snapshot_transfer`.
"""
