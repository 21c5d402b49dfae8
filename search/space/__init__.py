"""What there is to choose from: tasks, candidates, the space."""
