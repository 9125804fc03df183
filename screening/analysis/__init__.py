"""What a plate says: probabilities -> fractions, quality, dose-response, kinetics, ranking; no images are needed."""
