"""The pages that people read: how a test reads them, and what `make docs` writes into them.

Tables of options, targets, variables, keys and measured figures stand between two comments,
`<!-- generated: ... -->` and `<!-- end -->`; each has one source, from which `python -m tests.pages` makes it again.
"""
