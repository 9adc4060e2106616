#ifndef TIMEWARP_LOCAL_ENERGY_H_
#define TIMEWARP_LOCAL_ENERGY_H_

#include "SystemState.h"
#include "SystemTerms.h"
#include "internal/windowsExportTimewarp.h"
#include "openmm/Vec3.h"
#include <memory>
#include <string>
#include <vector>

namespace TimewarpPlugin {

class DeviceLoan;
struct ProposalBatch;

/**
 * The local energy of a block: the terms of a System's energy that contain a particle that the block's
 * proposals move, while everything else stays where it is.  Bonded terms, pairs within a cut-off (or all, if
 * there is none), exceptions and restraints are in it, and of a GBSAOBCForce what BornTerms says.  What
 * cannot be translated is not, and for the reciprocal space of Ewald sums stands a reaction field.  Terms
 * that proposals do not change are missing, so that only differences have a meaning.
 *
 * Given the rest it is one function of the moved particles' positions: it does not depend on which neighbours
 * were listed for a batch.  What may compute on its device takes a DeviceLoan, as in ProposalModel.
 */
class EXPORT_TIMEWARP LocalEnergy {
public:
    /**
     * @param terms       the System's, which its blocks share
     * @param particles   the particle of the System that each atom of the model corresponds to
     * @param moved       which atoms of the model proposals move
     * @param clashEnergy   where the pairs within 0.2 nm have more than this (kJ/mol; the default is some 400
     * kT), atoms stand in each other, and the energy of other pairs is not added: that saves most of the time
     * where most proposals clash.  What is sampled does not depend on it
     */
    LocalEnergy(std::shared_ptr<const SystemTerms> terms, const std::vector<int>& particles,
                const std::vector<int>& moved, double clashEnergy = 1000.0);
    ~LocalEnergy();
    /**
     * Run on a CUDA device if this build of torch can, else on the CPU.
     *
     * @param index   the index of the CUDA device, or -1 for the CPU
     */
    void useDevice(const DeviceLoan& loan, int index);
    /**
     * Set where everything is that proposals do not move.  To be called before anything is computed, and
     * whenever something of it has changed.  The positions of moved particles are not looked at.
     *
     * @return whether energies that were computed before may be others now.  They are not if whatever has
     * moved was and is beyond the reach of all conformations since this returned true
     */
    bool setState(const DeviceLoan& loan, std::shared_ptr<const SystemState> state);
    /**
     * Compute the energies of proposals (in kJ/mol).  Those of proposals that are not finite, or
     * too far away for coordinates to have digits left, are NaN.
     *
     * @param numAtoms   the number of atoms of the model
     * @param origin     what the positions of the batch are relative to (nm)
     * @param energies   on exit, the energy of each
     */
    void compute(const DeviceLoan& loan, const ProposalBatch& batch, int numAtoms, const OpenMM::Vec3& origin,
                 std::vector<double>& energies);
    /**
     * Compute the energy of one conformation of the model's atoms (in kJ/mol).
     */
    double compute(const DeviceLoan& loan, const std::vector<OpenMM::Vec3>& positions);
    /**
     * Get the SHA-256 digest of what it is made of.
     */
    std::string getDigest() const;
    /**
     * Get what it leaves to the System's energy, in words.
     */
    std::vector<std::string> getLeftOut() const;

private:
    class Implementation;
    std::unique_ptr<Implementation> implementation;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_LOCAL_ENERGY_H_*/
