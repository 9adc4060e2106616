"""Networks that several flows are made of."""
