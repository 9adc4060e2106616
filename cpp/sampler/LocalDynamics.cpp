#include "LocalDynamics.h"
#include "openmm/Integrator.h"
#include "openmm/Platform.h"
#include "openmm/kernels.h"

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

LocalDynamics::LocalDynamics(ContextImpl& context, int seed) : parameters(300.0, 1.0, 0.001) {
    parameters.setRandomNumberSeed(seed);
    kernel = context.getPlatform().createKernel(IntegrateLangevinMiddleStepKernel::Name(), context);
    kernel.getAs<IntegrateLangevinMiddleStepKernel>().initialize(context.getSystem(), parameters);
}

void LocalDynamics::run(Target& target, const DynamicsSettings& settings) {
    ContextImpl& context = target.getContext();
    parameters.setTemperature(target.getTemperature());
    parameters.setFriction(settings.frictionCoeff);
    parameters.setStepSize(settings.stepSize);
    parameters.setConstraintTolerance(context.getIntegrator().getConstraintTolerance());
    const long long count = context.getStepCount();
    for (int i = 0; i < settings.steps; i++) {
        const bool changed = context.updateContextState();
        if (i > 0 || changed || !target.contextHasForces())
            context.calcForcesAndEnergy(true, false, target.getForceGroups());
        kernel.getAs<IntegrateLangevinMiddleStepKernel>().execute(context, parameters);
    }

    target.forgetForces();

    // Reporters count the integrator's steps.

    context.setStepCount(count);
}

double LocalDynamics::computeKineticEnergy(ContextImpl& context) {
    return kernel.getAs<IntegrateLangevinMiddleStepKernel>().computeKineticEnergy(context, parameters);
}
