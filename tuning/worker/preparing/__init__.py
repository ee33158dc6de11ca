"""What comes before a worker's first trial."""
