"""Names on disk of a tree of FEFF runs: MATERIAL/POSCAR beside MATERIAL/FEFF-XANES/NNN_El/{feff.inp,xmu.dat}."""

from __future__ import annotations

import re

POSCAR = "POSCAR"
# Beside it: what `spt-jax structures` says of its making.
PROVENANCE = "provenance.json"
RUNS = "FEFF-XANES"
# NNN is the index of the site in the POSCAR.
SITE_FOLDER = re.compile(r"^(\d+)_([A-Z][a-z]?)$")
INPUT = "feff.inp"
XMU = "xmu.dat"
# Beside them, by `spt-jax feff`: what FEFF was asked for, and what became of it.
SETTINGS = "settings.json"
STATUS = "status.json"
# Key of settings that names the program and its version.
CODE = "code"
# At the top of a tree, by the commands that made it; no structure and no run.
RECORDS = ("structures.json", "options.json", "campaign.json")
