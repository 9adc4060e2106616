#include "NonbondedPairs.h"
#include "PairLoops.h"
#include "openmm/reference/SimTKOpenMMRealType.h"
#include <algorithm>
#include <cmath>
#include <limits>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

namespace {

const double INFINITE = numeric_limits<double>::infinity();

/**
 * Particles that moved ones have terms with.
 */
struct Particles : Points {
    /** Charges; sigma/2 (nm); 2 sqrt(epsilon) (sqrt(kJ/mol)). */
    vector<double> charges, radii, depths;

    /** Take the parameters of some particles. */
    Particles(const PairForm& form, const map<string, double>& globals, const vector<int>& particles)
            : Points(particles.size()) {
        for (int particle : particles) {
            charges.push_back(form.parameters.get(particle, 0, globals));
            radii.push_back(0.5 * form.parameters.get(particle, 1, globals));
            depths.push_back(2 * sqrt(form.parameters.get(particle, 2, globals)));
        }
    }
};

/**
 * Get the energies of pairs of one particle with others (kJ/mol).
 *
 * @param charge, radius, depth   of the one, the charge in units of kJ nm/mol
 * @param squares                 squared distances (nm^2)
 * @param places                  which of the particles the others are
 */
TIMEWARP_PAIR_LOOP void pairEnergies(const NonbondedFunction& function, double charge, double radius,
                                     double depth, const Particles& particles, const double* squares,
                                     const int* places, int count, double* __restrict energies) {
    const double *charges = particles.charges.data(), *radii = particles.radii.data();
    const double* depths = particles.depths.data();
    const double fieldK = function.k, fieldC = function.c;
    if (!function.isSwitched) {
        for (int k = 0; k < count; k++) {
            const int j = places[k];
            const double inverse = 1 / sqrt(squares[k]), x = (radius + radii[j]) * inverse;
            const double x2 = x * x, x6 = x2 * x2 * x2;
            energies[k] = charge * charges[j] * (inverse + fieldK * squares[k] - fieldC) +
                          depth * depths[j] * x6 * (x6 - 1);
        }
        return;
    }
    for (int k = 0; k < count; k++) {
        const int j = places[k];
        const double r = sqrt(squares[k]), inverse = 1 / r, x = (radius + radii[j]) * inverse;
        const double x2 = x * x, x6 = x2 * x2 * x2;
        const double beyond = (r - function.begin) * function.rate, t = beyond > 0 ? beyond : 0;
        energies[k] = charge * charges[j] * (inverse + fieldK * squares[k] - fieldC) +
                      depth * depths[j] * x6 * (x6 - 1) * (1 + t * t * t * (-10 + t * (15 - 6 * t)));
    }
}

/**
 * Adds up the terms of one conformation after the other.
 */
class RowSum {
public:
    RowSum(const NonbondedFunction& function, double cutoff, const PeriodicBox* box, double clashDistance,
           double clashEnergy)
            : function(function), box(box), farthest(cutoff == 0 ? INFINITE : cutoff * cutoff),
              closest(clashDistance * clashDistance), clashEnergy(clashEnergy) {
    }
    /**
     * Compute the energy of all terms; where particles clash, that of the closest pairs alone.
     *
     * @param moved      the moved particles
     * @param others     those that they have terms with: other ones, or the moved ones again
     * @param excluded   for each of the moved ones, with which of the others it has no term
     * @param clashes    set if they clash
     */
    double compute(const Particles& moved, const Particles& others, const vector<vector<int>>& excluded,
                   char& clashes) {
        find(moved, others, excluded);
        const double close = closeEnergy(moved, others);
        if (close <= clashEnergy)
            return energy(moved, others);
        clashes = true;
        return close;
    }

private:
    /** Find the pairs within the cut-off. */
    void find(const Particles& moved, const Particles& others, const vector<vector<int>>& excluded) {
        const bool amongThemselves = (&moved == &others);
        ends.clear();
        int numFound = 0;
        for (int i = 0; i < moved.size(); i++) {
            const int first = (amongThemselves ? i + 1 : 0), count = others.size() - first;
            makeRoom(numFound, count);
            squaredDistances(moved.positionOf(i), others, first, count, box, all.data());
            for (int j : excluded[i])
                if (j >= first)
                    all[j - first] = INFINITE;
            numFound += keepBelow(farthest, all.data(), count, first, squares.data() + numFound,
                                  places.data() + numFound);
            ends.push_back(numFound);
        }
    }
    double closeEnergy(const Particles& moved, const Particles& others) {
        double sum = 0;
        for (int i = 0, pair = 0; i < moved.size(); i++) {
            closeSquares.clear();
            closePlaces.clear();
            for (; pair < ends[i]; pair++)
                if (squares[pair] < closest) {
                    closeSquares.push_back(squares[pair]);
                    closePlaces.push_back(places[pair]);
                }
            sum += energyOf(moved, i, others, closeSquares.data(), closePlaces.data(), closePlaces.size());
        }
        return sum;
    }
    double energy(const Particles& moved, const Particles& others) {
        double sum = 0;
        for (int i = 0, begin = 0; i < moved.size(); begin = ends[i++])
            sum += energyOf(moved, i, others, squares.data() + begin, places.data() + begin, ends[i] - begin);
        return sum;
    }
    double energyOf(const Particles& moved, int i, const Particles& others, const double* pairSquares,
                    const int* pairPlaces, int count) {
        pairEnergies(function, ONE_4PI_EPS0 * moved.charges[i], moved.radii[i], moved.depths[i], others,
                     pairSquares, pairPlaces, count, all.data());
        return sumOf(all.data(), count);
    }
    void makeRoom(int numFound, int count) {
        // For one more, since a number is written before it is known whether it is kept.

        auto grow = [](auto& values, size_t size) {
            if (values.size() < size)
                values.resize(2 * size);
        };
        grow(all, count + 1);
        grow(squares, numFound + count + 1);
        grow(places, numFound + count + 1);
    }

    const NonbondedFunction& function;
    const PeriodicBox* box;
    double farthest, closest, clashEnergy;
    /** Of one moved particle: squared distances of all others (nm^2), or energies (kJ/mol). */
    vector<double> all;
    /** Squared distances of pairs within the cut-off (nm^2), and which of the others is in each. */
    vector<double> squares;
    vector<int> places;
    /** Where the pairs of each of the moved particles end. */
    vector<int> ends;
    /** As above, of the closest pairs of one moved particle. */
    vector<double> closeSquares;
    vector<int> closePlaces;
};

/**
 * Get where the particles of some lists are in another list, which is in ascending order.
 */
vector<vector<int>> placesIn(const vector<int>& others, const vector<vector<int>>& lists) {
    vector<vector<int>> places(lists.size());
    for (size_t i = 0; i < lists.size(); i++)
        for (int particle : lists[i]) {
            auto found = lower_bound(others.begin(), others.end(), particle);
            if (found != others.end() && *found == particle)
                places[i].push_back(found - others.begin());
        }
    return places;
}

} // namespace

NonbondedPairs::NonbondedPairs(const PairForm& form, const BlockParticles& block, double clashDistance,
                               double clashEnergy)
        : form(&form), clashDistance(clashDistance), clashEnergy(clashEnergy), moved(block.moved),
          excluded(moved.size()), excludedAmongMoved(moved.size()) {
    for (auto [p1, p2] : form.exclusions)
        for (auto [particle, other] : {make_pair(p1, p2), make_pair(p2, p1)})
            if (block.isMoved(particle)) {
                const int place = block.places.at(particle);
                if (block.isMoved(other))
                    excludedAmongMoved[place].push_back(block.places.at(other));
                else
                    excluded[place].push_back(other);
            }
}

void NonbondedPairs::compute(const SystemState& state, const vector<int>& neighbors, const double* positions,
                             int64_t numRows, double* energies, vector<char>& clashes) const {
    Particles own(*form, state.parameters, moved), others(*form, state.parameters, neighbors);
    for (int k = 0; k < others.size(); k++)
        others.place(k, state.positions[neighbors[k]]);
    const vector<vector<int>> excludedOthers = placesIn(neighbors, excluded);
    RowSum sum(*form->nonbonded, form->cutoff, form->periodic ? &state.box : NULL, clashDistance,
               clashEnergy);
    for (int64_t row = 0; row < numRows; row++) {
        for (int i = 0; i < own.size(); i++, positions += 3)
            own.place(i, Vec3(positions[0], positions[1], positions[2]));
        energies[row] = sum.compute(own, others, excludedOthers, clashes[row]) +
                        sum.compute(own, own, excludedAmongMoved, clashes[row]);
    }
}
