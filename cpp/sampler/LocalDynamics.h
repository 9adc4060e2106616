#ifndef TIMEWARP_LOCAL_DYNAMICS_H_
#define TIMEWARP_LOCAL_DYNAMICS_H_

#include "Target.h"
#include "internal/windowsExportTimewarp.h"
#include "openmm/Kernel.h"
#include "openmm/LangevinMiddleIntegrator.h"
#include "openmm/internal/ContextImpl.h"

namespace TimewarpPlugin {

/**
 * Settings of molecular dynamics between moves.
 */
struct DynamicsSettings {
    /** Number of time steps between moves; 0 for none. */
    int steps = 0;
    /** The time step (ps). */
    double stepSize = 0.002;
    /** The friction coefficient (1/ps). */
    double frictionCoeff = 1.0;
};

/**
 * Molecular dynamics by OpenMM's own kernel of the LangevinMiddleIntegrator, on every platform.
 */
class EXPORT_TIMEWARP LocalDynamics {
public:
    LocalDynamics(OpenMM::ContextImpl& context, int seed);
    /**
     * Perform time steps.  Each is what a step of a LangevinMiddleIntegrator is, the Context's step count
     * excepted.
     */
    void run(Target& target, const DynamicsSettings& settings);
    double computeKineticEnergy(OpenMM::ContextImpl& context);

private:
    OpenMM::LangevinMiddleIntegrator parameters;
    OpenMM::Kernel kernel;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_LOCAL_DYNAMICS_H_*/
