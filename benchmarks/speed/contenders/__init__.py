"""One file per library: how it trains a network or classifies with it. Imported by workers only."""
