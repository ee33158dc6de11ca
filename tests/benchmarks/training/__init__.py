"""The search measured in real training: what is found after so many seconds, and after so many epochs.

``make bench-training`` (`__main__`) trains one plan (`plan`) with each contestant (`contestants`), one after the other:
the service's own command line with its default strategy, the same with Optuna's TPE and median pruner, and KerasTuner's
Hyperband (`peer_keras_tuner`) on the same hypermodel. All are looked at from outside, twice a second (`watching`). What
was seen (`outcomes`) is kept (`results`), told (`summary`) and drawn (`draw`).
"""
