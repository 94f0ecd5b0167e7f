"""Symbols to bytes and back: integer tables, the entropy coder, and the .quad container."""
