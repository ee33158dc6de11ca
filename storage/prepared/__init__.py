"""What a home holds of data that were made ready to train on, as far as files go."""
