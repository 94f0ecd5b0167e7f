"""What every layer stands on: names, files, devices, draws, progress, registries.

Imported by module.
"""
