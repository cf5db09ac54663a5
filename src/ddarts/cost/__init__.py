"""What a network costs: parameters, multiply-adds and latency."""
