"""The registration module behind its file: parameters, logic, widget."""
