"""Products and convolutions with an approximate multiplier, natively or with torch alone, with gradients."""
