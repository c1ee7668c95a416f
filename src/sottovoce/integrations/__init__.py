"""Enhancement inside the frameworks of voice agents, one module each; each needs the extra of its name."""
