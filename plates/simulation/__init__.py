"""A whole plate whose answers are known, written as the instrument writes it."""
