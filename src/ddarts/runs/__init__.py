"""The run folder: settings, metrics, checkpoints, and the lock that keeps two processes apart."""
