"""Sections on the molecules themselves: intact structures, conformations, energies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..analysis.energies import potential_energies
from ..analysis.states import MetastableStates
from ..analysis.structure import divergence_floor, jensen_shannon, worst_first
from ..molecule.superposition import rmsd_to
from ..units import thermal_energy
from . import drawing
from .findings import Picture, Section, columns, show
from .study import FLOW, LONG, MD, SHORT, Study
from .survey import Survey

#: A coordinate is named as different where its divergence exceeds its floor so many times, and
#: this much in absolute terms.
_TIMES_FLOOR = 3.0
_LEAST_DIVERGENCE = 0.005
#: Frames whose energies are computed, of each sample.
_MOST_ENERGIES = 3000


def structure_section(study: Study, warnings: list[str]) -> Section:
    """Bonds and angles against MD, chirality, cis/trans bonds, clashes."""
    section = Section(
        "structure",
        "Structure checks",
        "Over all frames. The Jensen-Shannon divergence of each bond length and angle from MD is "
        "put beside what random halves of the MD's blocks differ by. Chirality and cis/trans bonds "
        "are compared with the topology file; atoms four or more bonds apart clash when nearer "
        "than 0.6 of the sum of their van der Waals radii.",
    )
    surveys = study.surveys()
    rows = {}
    for label, survey in surveys.items():
        rows[label] = _integrity_row(section, label, survey, warnings)
    header = ["sample", "frames", "not finite", "flipped centres", "turned bonds", "clashes",
              "closest contact / vdW"]  # fmt: skip
    section.tables.append(columns(header, rows, "Frames with ..."))
    with section.attempt("bond lengths and angles against MD"):
        if study.reference is None or study.reference.histograms is None:
            raise ValueError("there is no MD to compare with; give --reference")
        _compare_geometry(section, study, study.reference, warnings)
    return section


def _integrity_row(section: Section, label: str, survey: Survey, warnings: list[str]) -> list[str]:
    check = survey.integrity
    flips = {
        name: int(n)
        for name, n, relabel in zip(check.centre_names, check.flips, check.relabels, strict=True)
        if n and not relabel
    }
    relabelled = {
        name: int(n)
        for name, n, relabel in zip(check.centre_names, check.flips, check.relabels, strict=True)
        if n and relabel
    }
    turned = {n: int(k) for n, k in zip(check.amide_names, check.turned, strict=True) if k}
    broken = sum(chain.broken for chain in survey.chains)
    section.numbers[label] = {
        "frames": check.frames,
        "not_finite": broken,
        "flipped_centres": flips,
        "hydrogens_relabelled": relabelled,
        "turned_amides": turned,
        "frames_with_clashes": check.clashes,
        "closest_contact": check.closest,
        "closest_pair": check.closest_pair,
    }
    if label == LONG:
        warnings.extend(f"{name} changed its chirality in {n} frames" for name, n in flips.items())
        warnings.extend(
            f"the bond {name} turned between cis and trans in {n} frames"
            for name, n in turned.items()
        )
        if broken:
            warnings.append(f"{broken} frames of the chain hold positions that are not finite")
    flipped = ", ".join(f"{n} ({k})" for n, k in flips.items()) or "none"
    amides = ", ".join(f"{n} ({k})" for n, k in turned.items()) or "none"
    contact = f"{check.closest:.2f} {check.closest_pair}" if check.closest_pair else "no pairs"
    clashes = f"{check.clashes} ({check.clashes / max(1, check.frames):.2%})"
    return [str(check.frames), str(broken), flipped, amides, clashes, contact]


def _compare_geometry(
    section: Section, study: Study, reference: Survey, warnings: list[str]
) -> None:
    names = study.subject.geometry.names
    assert reference.histograms is not None
    md = reference.histograms.counts
    floor = divergence_floor(md)
    divergences: dict[str, NDArray[np.float64]] = {}
    own_floor: dict[str, NDArray[np.float64]] = {}
    for label, survey in study.surveys().items():
        if label != MD and survey.histograms is not None:
            counts = survey.histograms.counts
            divergences[label] = jensen_shannon(counts.sum(0), md.sum(0))
            own_floor[label] = divergence_floor(counts)
    if not divergences:
        return
    rows = {}
    for label, values in divergences.items():
        noise = np.fmax(np.nan_to_num(floor), np.nan_to_num(own_floor[label]))
        different = values > np.maximum(_TIMES_FLOOR * noise, _LEAST_DIVERGENCE)
        worst = worst_first(values, names)[:5]
        rows[label] = [
            show(float(np.median(values))),
            f"{int(different.sum())} of {len(names)}",
            "; ".join(f"{n} {values[i]:.3g} (floor {noise[i]:.2g})" for n, i in worst),
        ]
        section.numbers.setdefault("geometry", {})[label] = {
            name: {"js_bits": values[i], "floor": noise[i], "different": bool(different[i])}
            for i, name in enumerate(names)
        }
        if label == LONG and different.any():
            worst_name = next(n for n, i in worst_first(values, names) if different[i])
            warnings.append(
                f"{int(different.sum())} of {len(names)} bond lengths and angles differ from MD "
                f"beyond noise, most of all {worst_name}"
            )
    header = ["sample", "median divergence / bit", "beyond noise", "worst"]
    section.tables.append(columns(header, rows, "Bond lengths and angles against MD"))
    figure = drawing.draw_divergences(divergences, floor, names)
    caption = "The bond lengths and angles that differ most from MD."
    section.pictures.append(Picture("geometry", caption, figure))


def conformations_section(study: Study, states: MetastableStates | None) -> Section:
    """RMSD to one conformation of each state, and between successive frames."""
    section = Section(
        "conformations",
        "Conformations over the whole sequence",
        "Heavy-atom RMSD after superposition: to the frame of MD that is most typical of each "
        "metastable state (to the topology file where there are none), and between successive "
        "recorded frames. A repeated frame has 0.",
    )
    subject = study.subject
    conformations, names = typical_conformations(study, states)
    for label, survey in study.surveys().items():
        frames = survey.frames()
        if label == FLOW:
            continue
        with section.attempt(f"RMSD of {label}"):
            values = rmsd_to(frames[:, subject.heavy], conformations[:, subject.heavy])
            stride = max(chain.frames.stride for chain in survey.chains)
            x = np.arange(len(values), dtype=float) * stride
            lines = {name: (x, values[:, i]) for i, name in enumerate(names)}
            slug = label.lower().replace(" ", "-")
            section.pictures.append(
                Picture(
                    f"rmsd-{slug}",
                    f"{label}: RMSD to typical conformations, chains one after the other.",
                    drawing.draw_lines(lines, ("frame", "RMSD / nm"), bottom=0.0),
                )
            )
            section.numbers[label] = {
                "to": names,
                "rmsd_nm_mean": values.mean(0),
                "rmsd_nm_max": values.max(0),
                "share_nearest": np.bincount(values.argmin(1), minlength=len(names)) / len(values),
            }
        _show_steps(section, label, survey)
    return section


def _show_steps(section: Section, label: str, survey: Survey) -> None:
    steps = [np.asarray(c.watch.steps.values, dtype=float) for c in survey.chains]
    pooled = np.concatenate(steps)
    if len(pooled) == 0:
        section.problems.append(f"RMSD between successive frames of {label}: one frame only")
        return
    stride = survey.chains[0].watch.steps.stride
    slug = label.lower().replace(" ", "-")
    x = np.arange(len(steps[0]), dtype=float) * stride
    section.pictures.append(
        Picture(
            f"steps-{slug}",
            f"{label}: RMSD between successive frames, {survey.chains[0].name}.",
            drawing.draw_lines({label: (x, steps[0])}, ("frame", "RMSD / nm"), bottom=0.0),
        )
    )
    section.numbers.setdefault(label, {})["successive_rmsd_nm"] = {
        "mean": pooled.mean(),
        "max": pooled.max(),
        "mean_of_moves": pooled[pooled > 0].mean() if (pooled > 0).any() else 0.0,
    }


def typical_conformations(
    study: Study, states: MetastableStates | None
) -> tuple[NDArray[np.float32], list[str]]:
    """Return one conformation [C, N, 3] of each state of the MD, nearest to its largest cluster."""
    from ..analysis.states import nearest_centre
    from ..analysis.tica import torsion_features
    from ..analysis.torsions import folded_torsions

    subject = study.subject
    if states is None or study.reference is None:
        return subject.positions[None].astype(np.float32), ["topology file"]
    frames = study.reference.frames()
    torsions = folded_torsions(frames, [subject.torsions[c] for c in study.rotatable])
    cluster, distance = nearest_centre(torsion_features(torsions), states.centres)
    chosen, names = [], []
    for s, name in enumerate(states.names):
        members = np.flatnonzero(states.states[cluster] == s)
        if len(members) == 0:
            continue
        largest = np.bincount(cluster[members]).argmax()
        inside = members[cluster[members] == largest]
        chosen.append(frames[inside[distance[inside].argmin()]])
        names.append(name)
    return np.stack(chosen), names


def energy_section(study: Study) -> tuple[Section, dict[str, NDArray[np.float64]]]:
    """Potential energies of the samples."""
    section = Section(
        "energies",
        "Potential energy",
        f"Of up to {_MOST_ENERGIES} frames of each sample, evenly spread, by the same System.",
    )
    energies: dict[str, NDArray[np.float64]] = {}
    with section.attempt("potential energies"):
        if study.system is None:
            raise ValueError("give --model, --force-field or --system to compute them with")
        for label, sample in study.samples().items():
            if label == SHORT:
                continue
            frames = sample.frames[:: -(-len(sample.frames) // _MOST_ENERGIES)]
            energies[label] = potential_energies(study.system, frames)
        if LONG in energies:
            count = max(1, round(study.short * len(energies[LONG])))
            energies[SHORT] = energies[LONG][:count]
        figure = drawing.draw_histograms(energies, "potential energy / (kJ/mol)")
        section.pictures.append(Picture("energies", "Distribution of the energy.", figure))
        scale = thermal_energy(study.temperature) if study.temperature else float("nan")
        rows = {
            k: [show(float(e.mean()), digits=5), show(float(e.std())),
                show(float(np.median(e)), digits=5), show(float(e.std() / scale))]
            for k, e in energies.items()
        }  # fmt: skip
        header = ["sample", "mean / (kJ/mol)", "standard deviation", "median", "deviation / kT"]
        section.tables.append(columns(header, rows))
        section.numbers.update(
            {
                k: {"mean": e.mean(), "std": e.std(), "median": np.median(e), "frames": len(e)}
                for k, e in energies.items()
            }
        )
    finite = {k: e[np.isfinite(e)] for k, e in energies.items()}
    return section, {k: e for k, e in finite.items() if len(e)}
