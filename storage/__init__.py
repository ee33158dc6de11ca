"""Everything that outlives a process: paths, the database, claims, and the files of trials.

The bottom of the house: it imports none of the other packages, and no Keras.
"""
