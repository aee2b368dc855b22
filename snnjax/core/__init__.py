"""The foundations of all rooms: errors, checks, files, components, devices, metrics."""
