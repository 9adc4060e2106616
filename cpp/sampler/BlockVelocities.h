#ifndef TIMEWARP_BLOCK_VELOCITIES_H_
#define TIMEWARP_BLOCK_VELOCITIES_H_

#include "CenterOfMass.h"
#include "internal/windowsExportTimewarp.h"
#include "openmm/internal/ContextImpl.h"
#include <vector>

namespace TimewarpPlugin {

class TimewarpStateKernel;

/**
 * Writes new velocities for the particles of a block to the Context, as draws from the Maxwell-Boltzmann
 * distribution on the conditions that the System sets: no total momentum where there is a CMMotionRemover,
 * and none along constraints.
 */
class EXPORT_TIMEWARP BlockVelocities {
public:
    BlockVelocities() = default;
    /**
     * @param particles     the particle of each of the block's atoms
     * @param atoms         the atoms among them that get new velocities, in ascending order: all that are
     * moved, and all that constraints tie to one of these
     * @param constrained   whether any of them is constrained
     */
    BlockVelocities(OpenMM::ContextImpl& context, const std::vector<int>& particles,
                    const std::vector<int>& atoms, bool constrained);
    /**
     * Write velocities.
     *
     * @param velocities   3*N auxiliary velocities (dimensionless), which it may change
     * @param kT           the thermal energy (in kJ/mol)
     */
    void write(OpenMM::ContextImpl& context, TimewarpStateKernel& kernel, std::vector<float>& velocities,
               double kT);

private:
    CenterOfMass centerOfMass;
    bool constrained = false;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_BLOCK_VELOCITIES_H_*/
