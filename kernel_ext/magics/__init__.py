"""The magics `%raftoral` and `%%workflow`, their completion, and the extension that puts them into a shell."""
