"""The training room: recipes become experiments, experiments become runs."""
