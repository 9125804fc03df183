"""Faults done to tomoscreen on purpose: what happens is compared with a calm run, or with the truth."""
