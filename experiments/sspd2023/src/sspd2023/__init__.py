"""The experiment of Li, Sun, Wang and Naqvi (SSPD 2023), repeated: data, compared systems, tables and figures."""
