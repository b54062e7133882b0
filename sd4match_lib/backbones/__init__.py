"""The frozen models: Stable Diffusion, its text model, and vision models."""
