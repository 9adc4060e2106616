#ifndef TIMEWARP_CENTER_OF_MASS_H_
#define TIMEWARP_CENTER_OF_MASS_H_

#include "internal/windowsExportTimewarp.h"
#include "openmm/Kernel.h"
#include "openmm/System.h"
#include "openmm/Vec3.h"
#include "openmm/internal/ContextImpl.h"
#include <vector>

namespace TimewarpPlugin {

/**
 * Draws velocities without total momentum where the System has a CMMotionRemover: OpenMM then counts three
 * degrees of freedom less, as reporters of the temperature do.
 *
 * Velocities v of the Maxwell-Boltzmann distribution, of which the part sum(m v) / sum(m) is taken away, have
 * the conditional distribution of velocities without momentum.  Where only some of the particles are given
 * new velocities, these are drawn on the condition that their momentum is what it was: it balances that of
 * all the others, whose velocities stay.
 */
class EXPORT_TIMEWARP CenterOfMass {
public:
    /** For Systems without a CMMotionRemover. */
    CenterOfMass() = default;
    /**
     * @param particles   the particle of each of a block's atoms
     * @param atoms       the atoms among them that are given new velocities
     */
    CenterOfMass(OpenMM::ContextImpl& context, const std::vector<int>& particles,
                 const std::vector<int>& atoms);
    /**
     * Take the momentum away from auxiliary velocities that are about to be written to the Context, and from
     * the velocities that are there.
     *
     * @param velocities   3*N auxiliary velocities (dimensionless) of the block's atoms
     * @param kT           the thermal energy (in kJ/mol)
     */
    void remove(OpenMM::ContextImpl& context, std::vector<float>& velocities, double kT);

private:
    OpenMM::Vec3 momentumOfMoved(OpenMM::ContextImpl& context);
    /** The atoms that are given new velocities, and their particles. */
    std::vector<int> atoms, particles;
    /** Of these (dalton); none if there is nothing to do. */
    std::vector<double> masses;
    double totalMass = 0;
    /** Whether other particles have mass, too. */
    bool hasOthers = false;
    OpenMM::Kernel remover;
    std::vector<OpenMM::Vec3> current;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_CENTER_OF_MASS_H_*/
