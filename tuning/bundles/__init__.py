"""The best model as a folder that anyone can load: export, judge, images, predict."""
