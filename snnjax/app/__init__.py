"""What the commands need: run folders, reports, pictures, the terminal."""
