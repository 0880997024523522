"""From structures and FEFF spectra to datasets. Numpy only: this package never imports jax."""
