"""From a study to the findings of its report."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from . import chains, distributions, molecules
from .findings import Findings, Section
from .study import Study


def assess(
    study: Study, title: str, report: Callable[[str], None] = lambda _: None
) -> tuple[Findings, NDArray[np.float32], list[str]]:
    """Compute every section.

    Returns
    -------
    findings : Findings
    conformations : array [C, N, 3], nm
        One of each metastable state.
    names : list of C str
    """
    findings = Findings(title)

    def add(section: Section) -> None:
        findings.sections.append(section)
        report(section.title)

    warnings = findings.warnings
    add(distributions.ramachandran_section(study))
    add(distributions.profile_section(study))
    tica, slow = distributions.tica_section(study)
    add(tica)
    state_section, states = distributions.states_section(study, warnings)
    add(state_section)
    add(molecules.structure_section(study, warnings))
    add(molecules.conformations_section(study, states))
    energy_section, energies = molecules.energy_section(study)
    add(energy_section)
    add(chains.acceptance_section(study, warnings))
    add(chains.velocities_section(study))
    add(chains.sampling_section(study, slow, energies, warnings))
    add(distributions.wasserstein_section(study, slow, energies))
    if study.run_folder is not None:
        add(chains.training_section(study.run_folder))
    return findings, *molecules.typical_conformations(study, states)
