"""The search strategies of this package, one a file; ``ddarts.config.strategies`` holds their names and settings."""
