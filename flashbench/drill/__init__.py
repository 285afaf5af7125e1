"""The drill: tiny weights under the official names, so that the paper tier can be rehearsed where nothing of it is."""
