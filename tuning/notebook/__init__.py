"""A study in Python, as a notebook has it: the functions behind the commands, and their pictures inline."""
