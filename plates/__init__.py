"""Everything about a plate that is not an opinion: images, layout, stored results."""
