"""The objects that MiniPair shows, as solids with named keypoints."""
