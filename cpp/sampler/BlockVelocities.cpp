#include "BlockVelocities.h"
#include "TimewarpKernels.h"
#include "openmm/Integrator.h"

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

BlockVelocities::BlockVelocities(ContextImpl& context, const vector<int>& particles, const vector<int>& atoms,
                                 bool constrained)
        : centerOfMass(context, particles, atoms), constrained(constrained) {
}

void BlockVelocities::write(ContextImpl& context, TimewarpStateKernel& kernel, vector<float>& velocities,
                            double kT) {
    centerOfMass.remove(context, velocities, kT);
    kernel.setVelocities(context, velocities.data(), kT);

    // Gaussian velocities, projected in the metric of the masses, are those of the constrained distribution.

    if (constrained)
        context.applyVelocityConstraints(context.getIntegrator().getConstraintTolerance());
}
