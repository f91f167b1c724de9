"""The Python client. Written in its own room; see docs/architecture.md."""
