"""Search spaces: operations, and what a search may choose from."""
