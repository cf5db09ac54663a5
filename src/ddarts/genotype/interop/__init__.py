"""The text formats of published code, read and written without evaluation."""
