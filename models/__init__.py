"""What sees death in a patch."""
