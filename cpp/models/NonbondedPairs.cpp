#include "NonbondedPairs.h"
#include "PeriodicBox.h"
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
struct Particles {
    /** Positions (nm). */
    vector<double> x, y, z;
    /** Charges; sigma/2 (nm); 2 sqrt(epsilon) (sqrt(kJ/mol)). */
    vector<double> charges, radii, depths;

    /** Take the parameters of some particles. */
    Particles(const PairForm& form, const map<string, double>& globals, const vector<int>& particles)
            : x(particles.size()), y(x), z(x) {
        for (int particle : particles) {
            charges.push_back(form.parameters.get(particle, 0, globals));
            radii.push_back(0.5 * form.parameters.get(particle, 1, globals));
            depths.push_back(2 * sqrt(form.parameters.get(particle, 2, globals)));
        }
    }
    int size() const {
        return x.size();
    }
    Vec3 positionOf(int index) const {
        return Vec3(x[index], y[index], z[index]);
    }
    void place(int index, const Vec3& position) {
        x[index] = position[0];
        y[index] = position[1];
        z[index] = position[2];
    }
};

/**
 * Round to an integer by adding a number that leaves no bits for a fraction: processors without an
 * instruction for that, too, do this to several numbers at a time.
 */
inline double nearestInteger(double x) {
    const double shift = 6755399441055744.0;
    return (x + shift) - shift;
}

/**
 * Get the squared distances of particles from a point (nm^2), those of nearest images if there is a box.
 *
 * @param first   index of the first particle
 * @param count   how many particles
 */
void squaredDistances(const Vec3& point, const Particles& particles, int first, int count,
                      const PeriodicBox* box, double* squares) {
    const double *x = particles.x.data() + first, *y = particles.y.data() + first,
                 *z = particles.z.data() + first;
    const double px = point[0], py = point[1], pz = point[2];
    if (box == NULL) {
        for (int k = 0; k < count; k++) {
            const double dx = px - x[k], dy = py - y[k], dz = pz - z[k];
            squares[k] = dx * dx + dy * dy + dz * dz;
        }
        return;
    }
    const double ax = (*box)[0][0], bx = (*box)[1][0], by = (*box)[1][1];
    const double cx = (*box)[2][0], cy = (*box)[2][1], cz = (*box)[2][2];
    const double perAx = 1 / ax, perBy = 1 / by, perCz = 1 / cz;
    if (bx == 0 && cx == 0 && cy == 0) {
        for (int k = 0; k < count; k++) {
            double dx = px - x[k], dy = py - y[k], dz = pz - z[k];
            dx -= ax * nearestInteger(dx * perAx);
            dy -= by * nearestInteger(dy * perBy);
            dz -= cz * nearestInteger(dz * perCz);
            squares[k] = dx * dx + dy * dy + dz * dz;
        }
        return;
    }
    for (int k = 0; k < count; k++) {
        double dx = px - x[k], dy = py - y[k], dz = pz - z[k];
        const double c = nearestInteger(dz * perCz);
        dx -= cx * c;
        dy -= cy * c;
        dz -= cz * c;
        const double b = nearestInteger(dy * perBy);
        dx -= bx * b;
        dy -= by * b;
        dx -= ax * nearestInteger(dx * perAx);
        squares[k] = dx * dx + dy * dy + dz * dz;
    }
}

/**
 * Keep the numbers that are below a limit.
 *
 * @param first    what the first of them is called
 * @param kept     on exit, those kept; there must be room for all and one more
 * @param places   on exit, what they are called
 * @return how many are kept
 */
int keepBelow(double limit, const double* numbers, int count, int first, double* kept, int* places) {
    int numKept = 0;
    for (int k = 0; k < count; k++) {
        kept[numKept] = numbers[k];
        places[numKept] = first + k;
        numKept += (numbers[k] < limit);
    }
    return numKept;
}

/**
 * Get the energies of pairs of one particle with others (kJ/mol).
 *
 * @param charge, radius, depth   of the one, the charge in units of kJ nm/mol
 * @param squares                 squared distances (nm^2)
 * @param places                  which of the particles the others are
 */
void pairEnergies(const NonbondedFunction& function, double charge, double radius, double depth,
                  const Particles& particles, const double* squares, const int* places, int count,
                  double* energies) {
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
 * Add up numbers in an order that depends on their count alone.
 */
double sumOf(const double* numbers, int count) {
    const int width = 8;
    double parts[width] = {};
    int k = 0;
    for (; k + width <= count; k += width)
        for (int part = 0; part < width; part++)
            parts[part] += numbers[k + part];
    for (int part = 0; k + part < count; part++)
        parts[part] += numbers[k + part];
    return ((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7]));
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
     */
    double compute(const Particles& moved, const Particles& others, const vector<vector<int>>& excluded) {
        find(moved, others, excluded);
        const double close = closeEnergy(moved, others);
        return close <= clashEnergy ? energy(moved, others) : close;
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
                             int64_t numRows, double* energies) const {
    Particles own(*form, state.parameters, moved), others(*form, state.parameters, neighbors);
    for (int k = 0; k < others.size(); k++)
        others.place(k, state.positions[neighbors[k]]);
    const vector<vector<int>> excludedOthers = placesIn(neighbors, excluded);
    RowSum sum(*form->nonbonded, form->cutoff, form->periodic ? &state.box : NULL, clashDistance,
               clashEnergy);
    for (int64_t row = 0; row < numRows; row++) {
        for (int i = 0; i < own.size(); i++, positions += 3)
            own.place(i, Vec3(positions[0], positions[1], positions[2]));
        energies[row] = sum.compute(own, others, excludedOthers) + sum.compute(own, own, excludedAmongMoved);
    }
}
