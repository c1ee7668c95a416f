"""Use of an exported model without torch: load, enhance, stream, files."""
