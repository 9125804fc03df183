"""Readers, one a format, and the conversion of any acquisition into fields of a plate."""
