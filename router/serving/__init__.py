"""The gRPC edge: who calls, what they ask, and the reply; the policy decides."""
