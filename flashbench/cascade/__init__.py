"""FlashVideo's cascade in diffusers form (arXiv 2502.05179). Knows nothing of benchmarking.

Latents are (B, T, C, H, W), contexts (B, L, D), pixel frames (B, C, T, H, W) in [-1, 1] throughout.
"""
