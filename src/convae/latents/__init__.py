"""The latents room: what a trained model's latent space can do."""
