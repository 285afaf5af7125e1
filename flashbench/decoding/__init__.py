"""From the bytes of a video file to its pictures: which stream, how many pictures, whether whole, in which light."""
