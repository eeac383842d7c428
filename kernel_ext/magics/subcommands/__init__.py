"""One module for each subcommand of `%raftoral`. A new one is a module here, and a line of `table`."""
