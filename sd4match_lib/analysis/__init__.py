"""Looking at learned prompts, and painting from them."""
