"""What each part of a network and of its recipe is worth: trainings that differ in one of them."""
