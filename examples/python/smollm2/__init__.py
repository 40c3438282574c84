"""SmolLM2-135M in numpy, and what scripts/demo measures with it."""
