"""Final training, testing and prediction of a discrete network."""
