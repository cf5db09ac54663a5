"""What an architecture is. Nothing in here imports torch."""
