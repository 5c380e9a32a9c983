"""The training module behind its file: parameters, logic, widget."""
