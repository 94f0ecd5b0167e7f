"""Codecs: encoder, bottleneck and decoders together, their files, and .quad files."""
