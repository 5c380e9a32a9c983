"""What both AutoFuse modules share inside 3D Slicer: scene, worker process, visual checks, dependencies."""
