#include "ConstraintMetric.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

namespace {

struct Constraint {
    int particle1, particle2;
    double length;
};

} // namespace

static string named(const Constraint& constraint) {
    return "particles " + to_string(constraint.particle1) + " and " + to_string(constraint.particle2);
}

static vector<Constraint> constraintsOf(const System& system) {
    vector<Constraint> all(system.getNumConstraints());
    for (size_t i = 0; i < all.size(); i++)
        system.getConstraintParameters(i, all[i].particle1, all[i].particle2, all[i].length);
    return all;
}

/**
 * Which end of a constrained bond is the hydrogen.  The mass of the other one does not tell: with hydrogens
 * of 4 dalton the carbon of a methyl group is left with 3.  But it has all of the group's constraints, and
 * each of its hydrogens has one.
 */
class Ends {
public:
    Ends(const System& system, const vector<Constraint>& constraints) : system(system) {
        for (const Constraint& c : constraints) {
            counts[c.particle1]++;
            counts[c.particle2]++;
        }
    }
    /**
     * Get the heavy atom and the hydrogen.  Throws an exception if there is none, or another constraint on
     * it.
     */
    pair<int, int> tell(const Constraint& c) const {
        auto order = [&](int particle) {
            return make_pair(counts.at(particle), system.getParticleMass(particle));
        };
        auto [hydrogen, heavy] =
                minmax(c.particle1, c.particle2, [&](int a, int b) { return order(a) < order(b); });
        if (counts.at(hydrogen) > 1 || system.getParticleMass(hydrogen) > HEAVIEST_HYDROGEN)
            throw OpenMMException(
                    "Timewarp: the distance between " + named(c) +
                    " is constrained, and is not that of a bond between a heavy atom and a hydrogen without "
                    "other constraints, which is all that proposals can keep; build the System with "
                    "constraints=HBonds or constraints=None and, where water is moved, with "
                    "rigidWater=False");
        return {heavy, hydrogen};
    }

private:
    // Repartitioned masses go up to 4 dalton; helium is bound to nothing.
    static constexpr double HEAVIEST_HYDROGEN = 5.0;
    const System& system;
    map<int, int> counts;
};

/**
 * Get the constraints of the moved particles and of the heavy atoms to which these bind them.
 */
static vector<Constraint> constraintsNear(const vector<Constraint>& all, const set<int>& moved) {
    set<int> touched = moved;
    for (const Constraint& c : all)
        if (moved.count(c.particle1) || moved.count(c.particle2))
            touched.insert({c.particle1, c.particle2});
    vector<Constraint> near;
    for (const Constraint& c : all)
        if (touched.count(c.particle1) || touched.count(c.particle2))
            near.push_back(c);
    return near;
}

ConstraintMetric::ConstraintMetric(const System& system, const vector<int>& particles,
                                   const vector<int>& moved)
        : numAtoms(particles.size()) {
    map<int, int> atomOf;
    for (size_t i = 0; i < particles.size(); i++)
        atomOf[particles[i]] = i;
    set<int> movedParticles;
    for (int atom : moved)
        movedParticles.insert(particles[atom]);
    map<int, Cluster> byHeavy;
    const vector<Constraint> all = constraintsOf(system);
    const Ends ends(system, all);
    for (const Constraint& c : constraintsNear(all, movedParticles)) {
        auto [heavy, hydrogen] = ends.tell(c);
        if (!atomOf.count(hydrogen) || !atomOf.count(heavy))
            throw OpenMMException(
                    "Timewarp: the distance between " + named(c) +
                    " is constrained, but only one of them is among the atoms that the model knows; "
                    "use a model that has both, or build the System with constraints=None");
        Cluster& cluster = byHeavy[heavy];
        cluster.heavy = atomOf[heavy];
        cluster.heavyMass = system.getParticleMass(heavy);
        cluster.hydrogens.push_back(atomOf[hydrogen]);
        cluster.masses.push_back(system.getParticleMass(hydrogen));
        cluster.lengths.push_back(c.length);
        bool isMoved = movedParticles.count(hydrogen) || movedParticles.count(heavy);
        cluster.isMoved.push_back(isMoved);
        if (isMoved)
            bonds.emplace_back(atomOf[heavy], atomOf[hydrogen]);
    }
    for (auto& entry : byHeavy) {
        clusters.push_back(entry.second);
        hasAngles = hasAngles || entry.second.hydrogens.size() > 1;
    }
}

vector<int> ConstraintMetric::getAtoms() const {
    set<int> atoms;
    for (const Cluster& cluster : clusters) {
        atoms.insert(cluster.heavy);
        atoms.insert(cluster.hydrogens.begin(), cluster.hydrogens.end());
    }
    return vector<int>(atoms.begin(), atoms.end());
}

static Vec3 direction(const Vec3& from, const Vec3& to) {
    Vec3 difference = to - from;
    return difference / sqrt(difference.dot(difference));
}

double ConstraintMetric::compute(const vector<Vec3>& positions) const {
    double sum = 0;
    for (const Cluster& cluster : clusters) {
        // The determinant by Cholesky's decomposition.  There are but a few hydrogens on an atom.

        const size_t size = cluster.hydrogens.size();
        if (size == 1)
            continue;
        const size_t most = 8;
        if (size > most)
            throw OpenMMException("Timewarp: more than 8 constrained bonds meet in one atom");
        double factor[most][most];
        Vec3 directions[most];
        for (size_t k = 0; k < size; k++)
            directions[k] = direction(positions[cluster.heavy], positions[cluster.hydrogens[k]]);
        for (size_t k = 0; k < size; k++) {
            for (size_t l = 0; l <= k; l++) {
                double value = directions[k].dot(directions[l]) / cluster.heavyMass;
                if (k == l)
                    value += 1 / cluster.masses[k];
                for (size_t j = 0; j < l; j++)
                    value -= factor[k][j] * factor[l][j];
                factor[k][l] = (k == l ? sqrt(value) : value / factor[l][l]);
            }
            sum += log(factor[k][k]);
        }
    }
    return sum;
}

void ConstraintMetric::imposeLengths(vector<double>& proposals) const {
    if (bonds.empty())
        return;
    for (size_t row = 0; row < proposals.size(); row += 3 * numAtoms)
        for (const Cluster& cluster : clusters)
            for (size_t k = 0; k < cluster.hydrogens.size(); k++) {
                if (!cluster.isMoved[k])
                    continue;
                double* heavy = &proposals[row + 3 * cluster.heavy];
                double* hydrogen = &proposals[row + 3 * cluster.hydrogens[k]];
                Vec3 bond(hydrogen[0] - heavy[0], hydrogen[1] - heavy[1], hydrogen[2] - heavy[2]);
                bond *= cluster.lengths[k] / sqrt(bond.dot(bond));
                for (int j = 0; j < 3; j++)
                    hydrogen[j] = heavy[j] + bond[j];
            }
}

double ConstraintMetric::lengthError(const vector<Vec3>& positions) const {
    double largest = 0;
    for (const Cluster& cluster : clusters)
        for (size_t k = 0; k < cluster.hydrogens.size(); k++) {
            if (!cluster.isMoved[k])
                continue;
            Vec3 bond = positions[cluster.hydrogens[k]] - positions[cluster.heavy];
            largest = max(largest, fabs(sqrt(bond.dot(bond)) / cluster.lengths[k] - 1));
        }
    return largest;
}
