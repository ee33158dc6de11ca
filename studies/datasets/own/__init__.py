"""Data of one's own: folders, tables and arrays of users, read into the form of the official data sets."""
