"""The method on another task: medical images denoised without pairs. An experiment, not for clinical use."""
