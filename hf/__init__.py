"""The Hugging Face layout of a model directory."""
