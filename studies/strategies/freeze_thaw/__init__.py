"""The default search: trials are frozen and thawed by what their learning curves promise."""
