"""What users hold in their hands: Cluster, Node, WorkflowRun."""
