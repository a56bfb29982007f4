"""The kill script for ours and for peers: one workload of three steps, one of them paid."""
