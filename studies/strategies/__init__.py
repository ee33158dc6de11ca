"""What is trained on, and for how long: one interface, and the strategies behind it."""
