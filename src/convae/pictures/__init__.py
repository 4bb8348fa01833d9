"""The pictures room: grids, strips and curves as files."""
