"""What the database is told of a trial by the worker that runs it: what it was, and how it ended. No Keras."""
