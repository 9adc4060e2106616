#ifndef TIMEWARP_BATCH_ENERGY_H_
#define TIMEWARP_BATCH_ENERGY_H_

#include "internal/windowsExportTimewarp.h"
#include "openmm/Vec3.h"
#include <string>
#include <vector>

namespace TimewarpPlugin {

class DeviceLoan;
class Target;
struct ProposalBatch;

/**
 * An energy of a block's states that is computed for a whole batch of proposals at once, and that proposals
 * are tested with before the System's energy is asked for.  It may be any function of the positions; how near
 * it is to the System's energy decides only how much is accepted.
 */
class EXPORT_TIMEWARP BatchEnergy {
public:
    virtual ~BatchEnergy() = default;
    /**
     * Get a digest of what it is made of, to tell whether values in a checkpoint are its own.
     */
    virtual std::string getDigest() const = 0;
    /**
     * Get whether it depends on particles that are not the block's.
     */
    virtual bool feelsSurroundings() const {
        return false;
    }
    /**
     * Look at those, which may have moved.
     *
     * @return whether energies that were computed before hold no more
     */
    virtual bool lookAtSurroundings(const DeviceLoan& loan, const Target& target) {
        return false;
    }
    /**
     * Get what to call it in messages, and how to do without it.
     */
    virtual std::string describe() const = 0;
    virtual std::string getRemedy() const = 0;
    /**
     * Compute the energies of proposals (in kJ/mol).
     *
     * @param origin     what the positions of the batch are relative to (nm)
     * @param energies   on exit, the energy of each
     */
    virtual void compute(const DeviceLoan& loan, const ProposalBatch& batch, int numAtoms,
                         const OpenMM::Vec3& origin, std::vector<double>& energies) = 0;
    /**
     * Compute the energy of one state (in kJ/mol).
     */
    virtual double compute(const DeviceLoan& loan, const std::vector<OpenMM::Vec3>& positions) = 0;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_BATCH_ENERGY_H_*/
