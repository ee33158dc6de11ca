"""Every key that this service writes into the database beside Optuna's own columns, on one page.

User attributes are shown by the dashboard. System attributes are not; Optuna's own code reads those that it wrote.
"""

from __future__ import annotations

# --- User attributes of a study ---

# What is tuned and how, `studies.spec.StudySpec`, and its fingerprint.
SPEC = "spec"
FINGERPRINT = "fingerprint"
# What it trains on: `studies.stored.StudyData`.
DATA = "data"
# What its workers keep to: `studies.stored.Limits`.
LIMITS = "limits"
# Tells studies of one name in different databases apart, where both keep files under one home.
UID = "uid"
# How many trials it has in all, and how many epochs they train together; the latter is None without a bound.
BUDGET = "budget"
BUDGET_EPOCHS = "budget_epochs"
# When its workers were let go the last time: `studies.forecast.Launched`.
LAUNCHED = "launched"
# What is searched, and configurations that are tried first.
SPACE = "space"
FIRST = "first"

# --- System attributes of a study ---

# Failures of trials created before this number do not count towards the bound: the user has started the study anew.
FORGIVEN = "tuning:failures_forgiven_before"
# When a trial was last taken up, in seconds since 1970.
BEGUN = "tuning:begun"
# Which restoration made it: one whose answer was lost finds its own work.
RESTORED = "tuning:restored"

# --- User attributes of a trial ---

EPOCHS = "epochs"
SECONDS = "seconds"
BEST_EPOCH = "best_epoch"
VALIDATION_LOSS = "val_loss"
PRECISION = "precision"
THREADS = "threads"
DEVICE = "device"
WEIGHTS = "weights"
# How often its training step was traced: 0 where its worker had a compiled model for it.
TRACES = "traces"
# Who ran it last, and each time that it was given up: `[{"worker", "class", "reason", "moved"}, ...]`.
WORKER = "worker"
GIVEN_UP = "given_up"
# Why it failed, for people, and the class of it.
REASON = "reason"
FAILURE = "failure"
# The classes of failure that the parameters bring about: the loss is no longer a number, or the device or the machine
# has no room for the model and its batch.
DIVERGED, OUT_OF_MEMORY = "diverged", "out_of_memory"

# --- System attributes of a trial: they go when the trial goes. A table of our own would keep rows of trials that stock
# Optuna deleted, whose ids SQLite gives out again. ---

# Who holds it: `storage.claims`.
CLAIM = "tuning:claim"
# In a claim, where its trial is only to be recorded as over.
ENDS = "ends"
# The epochs after which it was frozen; null once it was taken up again.
FROZEN = "tuning:frozen"
# When its former claims were begun and last seen alive, `[[begun, seen], ...]` in seconds since 1970.
WORKED = "tuning:worked"
# The study's last report when it failed: its failures are in a row while nobody has reported since.
FAILED_AFTER = "tuning:failed_after"
# Followed by a role: the record of an artifact, `storage.artifacts.Artifact`. The other is Optuna's own prefix,
# followed by an artifact's id: what its dashboard shows.
ARTIFACT = "tuning:artifact:"
OPTUNA_ARTIFACT = "artifacts:"
# What Optuna's own `enqueue_trial` writes: the values that the trial is to have.
FIXED_PARAMETERS = "fixed_params"
