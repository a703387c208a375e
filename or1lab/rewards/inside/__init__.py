"""What is bound into the sandbox. In a folder of its own, whose neighbours shadow no standard module there."""
