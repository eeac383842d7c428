"""The backends that run the nodes behind the handles: in this process, or in processes of their own."""
