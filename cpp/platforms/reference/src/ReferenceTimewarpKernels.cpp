#include "ReferenceTimewarpKernels.h"
#include "openmm/reference/ReferencePlatform.h"
#include <cmath>
#include <cstring>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

static ReferencePlatform::PlatformData& platformData(ContextImpl& context) {
    return *static_cast<ReferencePlatform::PlatformData*>(context.getPlatformData());
}

static vector<Vec3>& extractPositions(ContextImpl& context) {
    return *platformData(context).positions;
}

static vector<Vec3>& extractVelocities(ContextImpl& context) {
    return *platformData(context).velocities;
}

void ReferenceTimewarpStateKernel::initialize(const System& system, const BlockAtoms& newAtoms) {
    atoms = newAtoms;
    particles = atoms.particles;
    masses.resize(system.getNumParticles());
    for (int i = 0; i < system.getNumParticles(); i++)
        masses[i] = system.getParticleMass(i);
}

void ReferenceTimewarpStateKernel::getPositions(ContextImpl& context, vector<Vec3>& positions) {
    const vector<Vec3>& all = extractPositions(context);
    positions.resize(particles.size());
    for (size_t i = 0; i < particles.size(); i++)
        positions[i] = all[particles[i]];
}

void ReferenceTimewarpStateKernel::savePositions(ContextImpl& context) {
    getPositions(context, saved);
}

void ReferenceTimewarpStateKernel::restorePositions(ContextImpl& context) {
    vector<Vec3>& all = extractPositions(context);
    for (size_t i = 0; i < particles.size(); i++)
        all[particles[i]] = saved[i];
}

bool ReferenceTimewarpStateKernel::positionsAreSaved(ContextImpl& context) {
    if (saved.empty())
        return false;
    const vector<Vec3>& all = extractPositions(context);
    for (size_t i = 0; i < particles.size(); i++)
        if (memcmp(&all[particles[i]], &saved[i], sizeof(Vec3)) != 0)
            return false;
    return true;
}

void ReferenceTimewarpStateKernel::setProposals(ContextImpl& context, const vector<double>& positions,
                                                const Vec3& origin) {
    proposals.resize(positions.size() / 3);
    for (size_t i = 0; i < proposals.size(); i++)
        proposals[i] = origin + Vec3(positions[3 * i], positions[3 * i + 1], positions[3 * i + 2]);
}

void ReferenceTimewarpStateKernel::applyProposal(ContextImpl& context, int proposal) {
    vector<Vec3>& all = extractPositions(context);
    for (int i : atoms.moved)
        all[particles[i]] = proposals[proposal * particles.size() + i];
}

void ReferenceTimewarpStateKernel::reorderAtoms(ContextImpl& context) {
}

void ReferenceTimewarpStateKernel::setVelocities(ContextImpl& context, const float* velocities, double kT) {
    vector<Vec3>& all = extractVelocities(context);
    for (int i : atoms.redrawn) {
        double scale = sqrt(kT / masses[particles[i]]);
        all[particles[i]] = Vec3(velocities[3 * i], velocities[3 * i + 1], velocities[3 * i + 2]) * scale;
    }
}

double ReferenceTimewarpStateKernel::computeKineticEnergy(ContextImpl& context) {
    const vector<Vec3>& velocities = extractVelocities(context);
    double energy = 0;
    for (size_t i = 0; i < masses.size(); i++)
        energy += 0.5 * masses[i] * velocities[i].dot(velocities[i]);
    return energy;
}
