"""What a stored voxel means: refractive index x 10,000 as uint16; 0 = missing."""

COUNTS_PER_INDEX = 1e4
SCALE_FACTOR = 1e-4  # stored count -> refractive index
