"""One process on one device: claim a trial, run it, tell the result, until the budget is spent."""
