"""The rows of a study: as claims see them in one transaction, and as they are copied and read as a whole.

It knows Optuna's tables, and nothing of how a database is opened or of what its calls do when it is busy.
"""
