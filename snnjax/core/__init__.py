"""What every room stands on: errors, checks, files, components, devices, processes, metrics."""
