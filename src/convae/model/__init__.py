"""The model room: layers, bottlenecks, likelihoods and presets become a VAE, and a VAE becomes an artifact."""
