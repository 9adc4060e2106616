#include "Target.h"
#include "openmm/OpenMMException.h"
#include <cmath>
#include <limits>
#include <openmm/reference/SimTKOpenMMRealType.h>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

void Target::use(ContextImpl& newContext, double newTemperature, int newForceGroups) {
    context = &newContext;
    temperature = newTemperature;
    kT = BOLTZ * temperature;
    forceGroups = newForceGroups;
    random.state = thermodynamicState(temperature, forceGroups, context->getParameters());
}

void Target::setRandomNumbers(int64_t seed, int64_t replica, uint16_t chain) {
    random.seed = seed;
    random.replica = replica;
    random.chain = chain;
}

RandomKey Target::getRandomKey(uint16_t move) const {
    RandomKeyParts parts = random;
    parts.move = move;
    return RandomKey(parts);
}

void Target::noteChange(bool byForces, bool byLoading) {
    revisions.change();
    change.number++;
    change.byForces = byForces;
    change.byLoading = byLoading;
}

void Target::noteCorrection() {
    const bool energyIsKnown = energy.isOf(getRevision());
    noteChange(change.byForces, change.byLoading);
    if (energyIsKnown)
        lookAtEnergy();
}

void Target::lookAtEnergy() {
    double before = energy.value;
    // Dynamics begin with the forces of this state if no move leads away from it.

    energy.set(computeEnergy(timeStep > 0), getRevision());
    change.ofEnergy = (energy.value != before);

    // Positive infinity is all right: any proposal of a finite energy is better.

    if (isnan(energy.value) || energy.value == -numeric_limits<double>::infinity())
        throw OpenMMException(
                "Timewarp: the potential energy of the current state is NaN or minus infinity; set valid "
                "positions, for example by minimizing the energy, before stepping");
}

double Target::computeEnergy(bool withForces) {
    forgetForces();
    context->computeVirtualSites();
    const double computed = context->calcForcesAndEnergy(withForces, true, forceGroups);
    if (withForces)
        forcesRevision = getRevision();
    return computed;
}

const vector<Vec3>& Target::getForces() {
    if (!contextHasForces())
        computeEnergy(true);
    context->getForces(forces);
    return forces;
}

void Target::accept(double newEnergy) {
    revisions.change();
    energy.set(newEnergy, getRevision());
}

void Target::noteEnergy(double newEnergy) {
    energy.set(newEnergy, getRevision());
}

void Target::rollBack(int64_t earlier, double earlierEnergy) {
    revisions.rollBack(earlier);
    energy.set(earlierEnergy, earlier);
}
