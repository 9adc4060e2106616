#include "CenterOfMass.h"
#include "openmm/CMMotionRemover.h"
#include "openmm/Platform.h"
#include "openmm/kernels.h"
#include <cmath>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

static bool hasRemover(const System& system) {
    for (int i = 0; i < system.getNumForces(); i++)
        if (dynamic_cast<const CMMotionRemover*>(&system.getForce(i)) != NULL)
            return true;
    return false;
}

CenterOfMass::CenterOfMass(ContextImpl& context, const vector<int>& ofBlock, const vector<int>& newAtoms) {
    const System& system = context.getSystem();
    if (!hasRemover(system))
        return;
    atoms = newAtoms;
    for (int atom : atoms)
        particles.push_back(ofBlock[atom]);
    vector<bool> isMoved(system.getNumParticles(), false);
    for (int particle : particles) {
        isMoved[particle] = true;
        masses.push_back(system.getParticleMass(particle));
        totalMass += masses.back();
    }
    for (int i = 0; i < system.getNumParticles(); i++)
        hasOthers = hasOthers || (!isMoved[i] && system.getParticleMass(i) != 0);
    if (!hasOthers)
        return;

    // The System's own one may act but once in many steps.

    remover = context.getPlatform().createKernel(RemoveCMMotionKernel::Name(), context);
    remover.getAs<RemoveCMMotionKernel>().initialize(system, CMMotionRemover(1));
}

Vec3 CenterOfMass::momentumOfMoved(ContextImpl& context) {
    context.getVelocities(current);
    Vec3 momentum;
    for (size_t i = 0; i < particles.size(); i++)
        momentum += current[particles[i]] * masses[i];
    return momentum;
}

void CenterOfMass::remove(ContextImpl& context, vector<float>& velocities, double kT) {
    if (masses.empty())
        return;
    Vec3 wanted;
    if (hasOthers) {
        remover.getAs<RemoveCMMotionKernel>().execute(context);
        wanted = momentumOfMoved(context);
    }
    Vec3 momentum;
    for (size_t i = 0; i < masses.size(); i++) {
        const float* v = &velocities[3 * atoms[i]];
        momentum += Vec3(v[0], v[1], v[2]) * sqrt(masses[i] * kT);
    }
    Vec3 excess = (momentum - wanted) / totalMass;
    for (size_t i = 0; i < masses.size(); i++)
        for (int j = 0; j < 3; j++)
            velocities[3 * atoms[i] + j] -= static_cast<float>(excess[j] * sqrt(masses[i] / kT));
}
