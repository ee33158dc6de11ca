"""Numbers and labels as people keep them in files, and what is made of them for training."""
