"""The handles that users work with: Cluster, Node, WorkflowRun."""
