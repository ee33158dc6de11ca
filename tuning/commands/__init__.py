"""One command's work each, named as the command."""
