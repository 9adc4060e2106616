#include "RigidMotionGuard.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <cmath>
#include <sstream>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

// More of them are a parameter that is driven, say, and count as other changes do.
static const size_t MAX_STATES = 64;
static const double SHARE_OF_KT = 1e-3;
static const double ENERGY_ROUNDING = 1e-6;
// Of single precision, with a margin, since coordinates are rounded when they are moved and when they are
// stored.
static const double POSITION_ROUNDING = 5e-7;

double RigidMotionGuard::threshold(double energy, double kT, const vector<Vec3>& positions,
                                   const vector<Vec3>& forces) {
    double farthest = 1, square = 0;
    for (size_t i = 0; i < positions.size(); i++) {
        farthest = max(farthest, sqrt(positions[i].dot(positions[i])));
        square += forces[i].dot(forces[i]);
    }
    return SHARE_OF_KT * kT + ENERGY_ROUNDING * fabs(energy) + POSITION_ROUNDING * farthest * sqrt(square);
}

void RigidMotionGuard::reset() {
    const RigidMotions stillMade = made;
    *this = RigidMotionGuard();
    made = stillMade;
}

void RigidMotionGuard::setMade(const RigidMotions& motions) {
    made = motions;
    passed = false;
}

RigidMotions RigidMotionGuard::neverMade() const {
    return {kept.place && !made.place, kept.orientation && !made.orientation};
}

bool RigidMotionGuard::mustCompare(uint64_t thermodynamicState, bool changed) {
    if (known && !neverMade().any())
        return false;
    bool isNew = (seen.count(thermodynamicState) == 0);
    if (isNew && seen.size() < MAX_STATES) {
        seen.insert(thermodynamicState);
        passed = false;
    }
    else if (isNew || changed) {
        numChanges++;
        bool isPowerOfTwo = (numChanges & (numChanges - 1)) == 0;
        passed = passed && !isPowerOfTwo;
    }
    return !passed;
}

void RigidMotionGuard::setKept(const KeptMotions& motions) {
    kept = motions;
    known = true;
}

vector<RigidMotion> RigidMotionGuard::motionsToCompare() const {
    const RigidMotions never = neverMade();
    vector<RigidMotion> motions;
    if (never.place)
        motions.push_back({Vec3(0.23, -0.31, 0.17)});
    if (never.orientation) {
        motions.push_back({Vec3(), Vec3(0.36, 0.48, 0.8), 1.1});
        motions.push_back({Vec3(), Vec3(-0.6, 0.64, 0.48), 2.3});
    }
    return motions;
}

RigidMotions RigidMotionGuard::findNeeded(const RigidMotions& felt) const {
    const RigidMotions never = neverMade();
    return {never.place && felt.place, never.orientation && felt.any()};
}

void RigidMotionGuard::refuse(double change) const {
    stringstream message;
    message << "Timewarp: the energy depends on where the molecule lies (it changes by " << change
            << " kJ/mol when the molecule is " << (kept.orientation ? "moved or turned" : "moved")
            << " as a whole), but nothing here ever does that: proposals of this model keep the molecule's "
            << (kept.orientation ? "place and orientation" : "place")
            << ", so the chain would not sample the Boltzmann distribution. The reason may be a restraint, a "
               "field, other molecules or periodic images. Let rigid moves do it (setRigidMoves(); in a "
               "periodic System they are for blocks of one molecule), alternate with a dynamical integrator, "
               "such as LangevinMiddleIntegrator, in a CompoundIntegrator, or remove what the molecule feels";
    throw OpenMMException(message.str());
}
