"""The watcher: floors certified and monitored, canaries judged, tenants told."""
