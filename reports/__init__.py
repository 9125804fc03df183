"""Pages to read: they draw what is stored and compute nothing."""
