"""What is stored per keypoint, and what is read off it: PCK and its intervals."""
