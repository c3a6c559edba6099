"""What training hands to serving: a signed directory that is verified before it is trusted."""
