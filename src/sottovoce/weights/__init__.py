"""The bundled default model."""
