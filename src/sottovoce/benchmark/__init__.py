"""The experiment of the published system: protocol, runs, tables and figures."""
