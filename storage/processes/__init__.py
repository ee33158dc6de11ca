"""What every process of the project stands on: where it takes its modules from, and how many cores there are."""
