"""What a compiled step takes: memory, operations, traffic, time."""
