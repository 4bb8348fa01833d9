"""The interop room: foreign checkpoints and formats, in and out."""
