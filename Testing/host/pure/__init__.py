"""Stand-ins of Slicer's pure-Python modules; with AUTOFUSE_SLICER_SOURCE set, Slicer's own files take their place."""
