"""Train step: spectra per second of forward, backward and update, against PyTorch where it is installed."""
