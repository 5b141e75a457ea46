"""Steps as their authors work on them: a project to begin with, and a trial on a sample without a federation."""
