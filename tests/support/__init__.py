"""What tests share: servers of their own that start on demand and always stop."""
