"""What is handed over in the end: test accuracy, for the same wall-clock time on the same cores.

``make bench-best`` (`__main__`) runs cells (`cells`), each one contestant (`contestants`) on one data set for so many
minutes: the service as a user runs it, and peers, each a script (`peer_defaults`, `peer_keras_tuner`, `peer_optuna`)
that is told what to train and when its time is up (`task`). The peers build the models of the project's hypermodel,
with its space, its augmentation and its label smoothing, and train what they found for the time that is left
(`peer_training`, `sizing`). The others' share of the cores is noted (`quiet`), and what came of it told (`summary`).
"""
