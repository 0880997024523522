"""Names on disk of a tree of FEFF runs: MATERIAL/POSCAR beside MATERIAL/FEFF-XANES/NNN_El/{feff.inp,xmu.dat}."""

from __future__ import annotations

import re

# NNN is the index of the site in the POSCAR.
SITE_FOLDER = re.compile(r"^(\d+)_([A-Z][a-z]?)$")
