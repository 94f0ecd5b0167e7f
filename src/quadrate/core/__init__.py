"""What every layer stands on: names, files, devices, draws, progress, registries; imported by module."""
