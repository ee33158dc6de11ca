"""A study as a folder that outlives its database and its disk, and the way back."""
