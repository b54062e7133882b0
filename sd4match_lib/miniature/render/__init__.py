"""From an object and a camera to a picture with its annotations."""
