"""Jobs: many requests handed over at once, answered by workers, each with exactly one result."""
