"""Sections on where the samples are: maps, profiles, slow coordinates, states, distances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..analysis.autocorrelation import SamplingQuality, circular_quality, stack_chains
from ..analysis.free_energy import Profile, cut_blocks, free_energy_profile, map_difference
from ..analysis.states import MetastableStates, Occupation, find_states, occupation
from ..analysis.tica import SlowCoordinates, fit_slow_coordinates
from ..analysis.torsions import ramachandran_columns
from ..analysis.wasserstein import MOST_POINTS, energy_w2, euclidean_w2, torus_w2
from . import drawing
from .findings import Picture, Section, columns, show
from .study import FLOW, LONG, MD, SHORT, Sample, Study

#: Residues and torsions that get a figure; the JSON file has them all.
_MOST_MAPS = 4
_MOST_PROFILES = 12


def ramachandran_section(study: Study) -> Section:
    """Maps of each residue, and how they differ from MD beyond its own noise."""
    section = Section(
        "ramachandran",
        "Ramachandran maps",
        "Free energy over phi and psi, all on the same axes and colours. The flow without the "
        "Metropolis-Hastings test shows what the test has to mend. In the difference maps a colour "
        "says by how many standard deviations of the noise a bin differs from MD; the distance is "
        "the total variation, beside what random halves of the MD's blocks differ by.",
    )
    with section.attempt("Ramachandran maps"):
        residues = ramachandran_columns(study.torsions)
        if not residues:
            raise ValueError("no residue of this molecule has both phi and psi")
        samples = study.samples()
        for residue, phi, psi in residues:
            maps = {k: s.pooled[:, [phi, psi]] for k, s in samples.items()}
            if residue in [r[0] for r in residues[:_MOST_MAPS]]:
                figure = drawing.draw_ramachandran(maps, residue)
                caption = f"phi and psi of {residue}."
                section.pictures.append(Picture(f"ramachandran-{residue}", caption, figure))
        if MD not in samples:
            raise ValueError("differences are from MD; give --reference")
        for residue, phi, psi in residues:
            _compare_maps(section, samples, residue, [phi, psi])
    return section


def _compare_maps(
    section: Section, samples: dict[str, Sample], residue: str, pair: list[int]
) -> None:
    blocks = {k: _blocks(s, pair) for k, s in samples.items()}
    differences = {}
    for label in samples:
        if label == MD:
            continue
        with section.attempt(f"difference of the {label} from MD at {residue}"):
            differences[label] = map_difference(blocks[label], blocks[MD])
    if not differences:
        return
    figure = drawing.draw_differences(differences, f"difference from MD, {residue}")
    section.pictures.append(
        Picture(f"ramachandran-difference-{residue}", f"p(phi, psi) against MD, {residue}.", figure)
    )
    section.numbers[residue] = {
        label: {"total_variation": d.distance, "md_halves": d.floor, "md_halves_95": d.floor_high}
        for label, d in differences.items()
    }
    section.tables.append(
        columns(
            ["sample", "total variation from MD", "MD halves (mean)", "MD halves (95 %)"],
            {
                k: [show(d.distance), show(d.floor), show(d.floor_high)]
                for k, d in differences.items()
            },
            f"{residue}",
        )
    )


def _blocks(sample: Sample, pair: list[int]) -> list[NDArray[np.floating]]:
    tau = max(_tau(sample, column) for column in pair)
    return cut_blocks([t[:, pair] for t in sample.torsions], tau)


def quality_of(sample: Sample, column: int) -> SamplingQuality | None:
    """Return the quality of a torsion, or None where it is not defined."""
    try:
        return circular_quality(stack_chains([t[:, column] for t in sample.torsions]))
    except ValueError:
        return None


def _tau(sample: Sample, column: int) -> float:
    quality = quality_of(sample, column)
    return quality.tau if quality else 1.0


def profile_section(study: Study) -> Section:
    """Free-energy profiles of the torsions with bootstrap bands."""
    section = Section(
        "profiles",
        "Free-energy profiles of torsions",
        "-ln p of each torsion. Bands hold 95 % of a bootstrap over blocks that are at least twice "
        "the autocorrelation time long, where the chain is long enough for such blocks.",
    )
    profiles: dict[str, dict[str, Profile]] = {}
    for column in study.rotatable:
        name = study.torsions[column].name
        for label, sample in study.samples().items():
            if label == SHORT:
                continue
            with section.attempt(f"profile of {name}, {label}"):
                parts = [t[:, column] for t in sample.torsions]
                profile = free_energy_profile(parts, _tau(sample, column))
                profiles.setdefault(name, {})[label] = profile
                section.numbers.setdefault(name, {})[label] = {
                    "degrees": np.degrees(profile.centres),
                    "free_energy_kT": profile.free_energy,
                    "low": profile.low,
                    "high": profile.high,
                    "blocks": profile.blocks,
                }
    if not study.rotatable:
        section.problems.append("profiles: the molecule has no torsion that turns")
    if profiles:
        shown = dict(list(profiles.items())[:_MOST_PROFILES])
        section.pictures.append(
            Picture("profiles", "Torsions, MD and samples.", drawing.draw_profiles(shown))
        )
        if len(profiles) > len(shown):
            section.text += f" {len(shown)} of {len(profiles)} torsions are drawn."
    return section


def tica_section(study: Study) -> tuple[Section, SlowCoordinates | None]:
    """Slow coordinates fitted on the reference, all samples projected on them."""
    section = Section(
        "tica",
        "Slow coordinates (TICA)",
        "Time-lagged independent components of the torsions' sines and cosines, fitted on the MD "
        "alone; every sample is projected on the same two.",
    )
    slow = None
    with section.attempt("TICA"):
        reference = study.samples().get(MD)
        if reference is None:
            raise ValueError("it is fitted on MD; give --reference")
        parts = [t[:, study.rotatable] for t in reference.torsions]
        slow = fit_slow_coordinates(parts, max(1, study.tica_lag // reference.stride))
        section.numbers["timescales_in_frames"] = slow.timescales * reference.stride
        section.numbers["lag_in_frames"] = slow.lag * reference.stride
        if len(slow.mean) < 2:
            raise ValueError("the molecule has only one slow coordinate; two make a map")
        points = {k: slow.project(s.pooled[:, study.rotatable]) for k, s in study.samples().items()}
        figure = drawing.draw_projection(points, "TICA of the MD", ("TIC 1", "TIC 2"))
        section.pictures.append(Picture("tica", "Samples on the MD's slow coordinates.", figure))
    return section, slow


def states_section(study: Study, warnings: list[str]) -> tuple[Section, MetastableStates | None]:
    """Metastable states of the MD, their populations, transitions, and states missed."""
    section = Section(
        "states",
        "Metastable states",
        "k-means, a Markov state model and PCCA+ on the MD's torsions; every frame of every sample "
        "goes to the nearest cluster's state, or to none if it is farther from all of them than "
        "the MD ever is. Errors are from 20 blocks. Transitions are between successive frames.",
    )
    states = None
    with section.attempt("metastable states"):
        samples = study.samples()
        if MD not in samples:
            raise ValueError("they are found in MD; give --reference")
        names = [study.torsions[c].name for c in study.rotatable]
        parts = [t[:, study.rotatable] for t in samples[MD].torsions]
        lag = max(1, study.state_lag // samples[MD].stride)
        states = find_states(parts, names, lag)
        if not states.connected:
            section.text += (
                " The MD does not go between all of its states and back, so its populations "
                "across them are those of its starting points, not of the equilibrium."
            )
            warnings.append(
                "the MD reference does not go between all of its metastable states and back: its "
                "populations across them are those of its starting points, and differences from "
                "it are no sign of an error of the chain"
            )
        found = {
            k: occupation(
                [states.assign(t[:, study.rotatable]) for t in s.torsions], len(states.names)
            )
            for k, s in samples.items()
        }
        _show_states(section, states, found)
        _warn_of_states(warnings, states, found)
    return section, states


def _show_states(section: Section, states: MetastableStates, found: dict[str, Occupation]) -> None:
    shares = {k: (o.populations, o.errors) for k, o in found.items()}
    section.pictures.append(
        Picture(
            "populations",
            "Populations of the MD's states.",
            drawing.draw_populations(shares, states.names, "populations"),
        )
    )
    ordered = {k: o.transitions for k, o in found.items() if k != FLOW}
    section.pictures.append(
        Picture(
            "transitions",
            "Transitions counted between successive frames (proposals have no order).",
            drawing.draw_matrices(ordered, "transitions"),
        )
    )
    section.tables.append(
        columns(
            ["state", *found],
            {
                name: [
                    show(o.populations[s], o.errors[s])
                    # Proposals have no order, so they do not stay.
                    + ("" if label == FLOW else f" ({o.visits[s]} stays)")
                    for label, o in found.items()
                ]
                for s, name in enumerate(states.names)
            }
            | {"in none of them": [show(o.outside) for o in found.values()]},
            "Populations",
        )
    )
    section.numbers["names"] = states.names
    section.numbers["reference_connected"] = states.connected
    for label, o in found.items():
        section.numbers[label] = {
            "populations": o.populations,
            "errors": o.errors,
            "stays": o.visits,
            "transitions": o.transitions,
            "outside": o.outside,
            "missed": [n for n, v in zip(states.names, o.visits, strict=True) if v == 0],
        }


def _warn_of_states(
    warnings: list[str], states: MetastableStates, found: dict[str, Occupation]
) -> None:
    # One state alone is no basin that could have been left and found again.
    if LONG not in found or len(states.names) < 2:
        return
    found_visits = found[LONG].visits
    missed = [n for n, v in zip(states.names, found_visits, strict=True) if v == 0]
    if missed:
        warnings.append(
            f"states that the MD knows and the chain never visited: {', '.join(missed)}"
        )
    once = [
        f"{n} (share {p:.3g})"
        for n, v, p in zip(states.names, found_visits, found[LONG].populations, strict=True)
        if v == 1
    ]
    if once:
        warnings.append(
            f"states that the chain visited once only: {', '.join(once)}; their populations are "
            "not known"
        )
    if found[LONG].outside > 0.01:
        warnings.append(
            f"{found[LONG].outside:.1%} of the chain's frames are in no state that the MD knows; "
            "either the MD missed a state or the samples are wrong (see the structure checks)"
        )


def wasserstein_section(
    study: Study, slow: SlowCoordinates | None, energies: dict[str, NDArray[np.float64]]
) -> Section:
    """Wasserstein distances from MD, with that of MD halves from each other as the floor."""
    section = Section(
        "wasserstein",
        "Wasserstein distances from MD",
        f"2-Wasserstein distances of energies, torsions on the torus and the first two TICs "
        f"(definitions: docs/metrics.md). Torus and TICA take {MOST_POINTS} frames of each sample, "
        "so equal distributions do not give 0; the row of the MD's halves says what they give.",
    )
    samples = study.samples()
    if MD not in samples:
        section.problems.append("Wasserstein distances: they are from MD; give --reference")
        return section
    backbone = [i for i in study.rotatable if study.torsions[i].kind in ("phi", "psi")]
    backbone = backbone or study.rotatable
    points = {k: s.pooled[:, backbone] for k, s in samples.items()}
    projected = {}
    if slow is not None:
        projected = {k: slow.project(s.pooled[:, study.rotatable]) for k, s in samples.items()}
    rows: dict[str, dict[str, float]] = {}
    halves = "MD, first half against second"
    for label in (*[k for k in samples if k != MD], halves):
        row: dict[str, float] = {}
        rows[label] = row
        if backbone:
            row["torus_w2_rad"] = torus_w2(*_pair(points, label, halves))
        if projected:
            row["tica_w2"] = euclidean_w2(*_pair(projected, label, halves))
        if MD in energies and (label == halves or label in energies):
            pair = _pair(energies, label, halves)
            row["energy_w2_kj_per_mol"] = energy_w2(*pair)
    header = {"torus_w2_rad": "torus W2 / rad", "tica_w2": "TICA W2",
              "energy_w2_kj_per_mol": "energy W2 / (kJ/mol)"}  # fmt: skip
    section.tables.append(
        columns(
            ["sample", *header.values()],
            {k: [show(r.get(h, float("nan"))) for h in header] for k, r in rows.items()},
        )
    )
    section.numbers.update(rows)
    if not energies:
        section.problems.append(
            "energy W2: the energies are not known; give --model, --force-field or --system"
        )
    return section


def _pair(
    values: dict[str, NDArray[np.float64]], label: str, halves: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if label != halves:
        return values[label], values[MD]
    middle = max(1, len(values[MD]) // 2)
    return values[MD][:middle], values[MD][-middle:]
