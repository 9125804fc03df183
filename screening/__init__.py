"""What the plate says, and the commands."""
