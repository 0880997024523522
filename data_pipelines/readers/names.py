"""What a column holds, by its name: the words that beamlines use."""

from __future__ import annotations

import re

from data_pipelines.schema import SYMBOLS

_NAMES: tuple[tuple[str, str], ...] = (
    ("", r".*(time|clock|dead.?time|dtfactor|offs?|gain|delay|current|icr|ocr|input|output|slow|fast)\b.*|.*off"),
    ("chi", r"chi(\(k\)|\d|_k)?|k\d?\s?\*?\s?chi(\(k\))?|xafs|chik\w*"),
    ("k", r"k|wave_?number|k\s*[\[(]?\W?(1/)?a.*"),
    ("angle", r"(mono(chromator)?[ _]?)?(angle|theta|bragg)\b.*|angle ?\(o\)"),
    (
        "energy",
        r"e|e_?k?e?v|k?ev|omega|(.*[^a-z]|mono|zap|e?bragg|achieved|requested|photon|absolute)?en(ergy|ergie|er)?([ _.:*-].*)?",
    ),
    ("irefer", r"mu_?ref(er)?.*|xmu_?ref.*|mu_?12"),
    (
        "mu",
        r"<?(x?mu|xanes|absorption|absorbance|abs|mut|mu_?t(rans)?|xmu\(?trans\)?|mu_?01|mu_?f(luor?)?|mu_?sample)>?(\s*[(\[].*)?",
    ),
    ("mu", r"norm(al(i[sz]ed)?)?(_?mu|_absorption)?|xanes_norm|norm_xmu|nor"),
    ("irefer", r"i_?ref(er(ence)?)?\d?|i_?r|ir_eh\d|i_?2(_.*)?|iref[-_]?\d*|irefer"),
    ("i0", r"i_?[0o]([-_ (\[].*)?|i[-_ ]?zero|incident|i0_?\w*|.*[:._-]i0"),
    ("itrans", r"i_?(1|t|tr|trans(mission|mitted)?)([-_ (\[].*)?|transmission|itrans\w*|i1_?\w*|.*[:._-]it"),
    (
        "ifluor",
        r"i_?(f|ff|fl|fluo(r(escence)?)?)([-_ \d(\[].*)?|ifch\d+|iff\d*|.*fluo.*|[tp]?fy(_c\w*)?|fla(tot|\d+)|lytle|pips|vortex.*",
    ),
    ("ifluor", r"(dtc|roi|sca|mca|sdd|med|ge)[\d._]+|.*(?<![a-z])[a-z]{1,2}[ _]?[kl][ab]\d?(?![a-z]).*"),
)
# An emission line: FeKa, Mn_Ka, PbLa.
_LINE = re.compile(r"(?<![A-Za-z])([A-Z][a-z]?)[ _]?([KL])[ab]\d?(?![a-z])")


def role_of(name: str) -> str:
    """What a column of this name holds; "" where that is not known.

    >>> [role_of(name) for name in ("eBraggEnergy", "I0_EH1", "It", "Fe_Ka_mca1", "ICR.1", "seconds")]
    ['energy', 'i0', 'itrans', 'ifluor', '', '']
    """
    plain = re.sub(r"^\d+_|_c\d+$|[$(){}]", "", re.sub(r"\s*[\[(](k?ev|counts|cps|mm|deg\w*)[\])]", "", name.lower()))
    return next((role for role, pattern in _NAMES if re.fullmatch(pattern, plain.strip(" *'\""))), "")


def line_of(name: str) -> str | None:
    """The element whose emission line a column counts.

    >>> line_of("Fe_Ka_mca1"), line_of("XSP3:PbLa_Sum"), line_of("I0")
    ('Fe', 'Pb', None)
    """
    found = _LINE.search(name)
    return found[1] if found and found[1] in SYMBOLS else None
