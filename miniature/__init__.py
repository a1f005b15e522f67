"""A toy world of coloured shapes, small enough to train text-to-image on it from nothing."""
