"""What is concluded from stored evaluations and fresh runs."""
