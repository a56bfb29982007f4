"""Just enough EVM for adapters and devnet. It knows no contract."""
