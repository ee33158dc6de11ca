"""What a study optimises: which curve of its trainings, and in which direction."""
