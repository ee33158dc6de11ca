"""How fast, and in how much memory, data of one's own are prepared."""
