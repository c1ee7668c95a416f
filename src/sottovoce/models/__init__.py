"""Networks in torch: front end, autoencoders, the joint system, checkpoints, export."""
