"""What runs the VMs: one worker process each, of one of the backends."""
