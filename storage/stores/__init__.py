"""Folders of files: on a disk of this machine, or in an object store."""
