"""What people look at: a study's report, two studies side by side, one that somebody else runs. No study is changed."""
