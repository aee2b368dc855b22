"""The foundations of all other packages: errors, checks, files, components, devices and metrics."""
