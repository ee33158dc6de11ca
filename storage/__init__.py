"""Everything that outlives a process: paths, the database, claims, and the files of trials.

The bottom of the house: it imports none of the other packages, and no Keras.

    settings attributes errors          where it lies, under which key, and what a user is told
    files scratch                       a file or a folder whole, or not at all
    artifacts checkpoints               what a trial made, and what it goes on from
    connections database opening        Optuna's storage, safe for many processes; rows/ is what is done to its tables
    claims leases                       each trial created or taken up exactly once, and by whom
    backups/ leftovers                  a study as a folder and back; what no study needs any more
"""
