"""The evaluation room: metrics over a whole split, each with its protocol."""
