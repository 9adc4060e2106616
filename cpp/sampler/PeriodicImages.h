#ifndef TIMEWARP_PERIODIC_IMAGES_H_
#define TIMEWARP_PERIODIC_IMAGES_H_

#include "internal/windowsExportTimewarp.h"
#include "openmm/Vec3.h"
#include "openmm/internal/ContextImpl.h"
#include <vector>

namespace TimewarpPlugin {

class DeviceLoan;
class ProposalModel;
class BatchEnergy;

/**
 * In a periodic System images of a state are the same state.  To a model or a surrogate that tells them apart
 * they are not, and its chain would not have the box's distribution; such are refused.
 */
class EXPORT_TIMEWARP PeriodicImages {
public:
    /** For Systems without periodic boundary conditions. */
    PeriodicImages() = default;
    /**
     * @param particles   the particles that the model moves
     */
    PeriodicImages(const OpenMM::ContextImpl& context, const std::vector<int>& particles);
    /** Get whether there are any. */
    bool exist() const {
        return !molecules.empty();
    }
    /** Get whether the particles are of several molecules, each of which has images of its own. */
    bool areOfSeveralMolecules() const;
    /**
     * Throw an exception if the model's proposals depend on where molecules lie.
     *
     * @param positions   positions of the model's atoms (nm)
     */
    void check(const DeviceLoan& loan, ProposalModel& model,
               const std::vector<OpenMM::Vec3>& positions) const;
    /**
     * Throw an exception if the surrogate's energy changes when molecules are put into other images of the
     * box.
     *
     * @param kT   the thermal energy (kJ/mol)
     */
    void check(const DeviceLoan& loan, BatchEnergy& surrogate, OpenMM::ContextImpl& context,
               const std::vector<OpenMM::Vec3>& positions, double kT) const;

private:
    /** Which of the moved molecules each of the model's atoms is in; none if the System is not periodic. */
    std::vector<int> molecules;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_PERIODIC_IMAGES_H_*/
