"""Training a generator by behavioural matching."""
