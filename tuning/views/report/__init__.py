"""One study as a page that can be sent: what was asked, what came of it, and how to make each figure again."""
