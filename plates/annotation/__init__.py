"""States for patches without a classifier: from three stains and the plate map, from regions, and by hand."""
