"""Pictures and the page of a sideways model."""
