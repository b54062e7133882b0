"""Dense features of pictures: Stable Diffusion's, DINO's and DINOv2's, and their fusion."""
