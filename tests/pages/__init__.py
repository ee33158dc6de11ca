"""The pages that people read: where they are, and how a test reads them."""
