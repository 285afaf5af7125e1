"""DOVER (Wu 2023): its network, views of a video, scores, and the metrics made of them."""
