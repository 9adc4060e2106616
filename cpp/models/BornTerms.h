#ifndef TIMEWARP_BORN_TERMS_H_
#define TIMEWARP_BORN_TERMS_H_

#include "BlockParticles.h"
#include "PairLoops.h"
#include "SystemState.h"
#include "SystemTerms.h"
#include "internal/windowsExportTimewarp.h"
#include <cstdint>
#include <memory>
#include <vector>

namespace TimewarpPlugin {

/**
 * The part of a generalised Born energy (GBSAOBCForce) that depends on the moved particles of a block,
 * computed by loops on the CPU.
 *
 * Born radii make it an energy of many particles: a moved particle changes the radii of those around it, and
 * with them the energies of pairs in which nothing moves.  Computed as OpenMM does are the Born radii of
 * moved particles, their own terms, and their pairs with all others.  The radius of another particle has the
 * moved ones in it where they are within a reach of it, and with this radius B its own terms are computed.
 * Pairs of others are linear in 1/B,
 *
 *     E(B) = E(B') + sum_i (1/B_i - 1/B_i') dE/d(1/B_i),
 *
 * B' being the radii that there are without the block: they, and the derivatives, do not depend on where the
 * moved particles are or have been.  So the energy is one function of the moved particles' positions, given
 * all others.  It is the same to the last bit whatever else is computed with it.
 */
class EXPORT_TIMEWARP BornTerms {
public:
    /**
     * @param form    must outlive this
     * @param reach   how far moved particles change the radii of others (nm)
     */
    BornTerms(const BornForm& form, const BlockParticles& block, double reach = 0.6);
    /**
     * Set where everything else is.
     */
    void setState(std::shared_ptr<const SystemState> state);
    /**
     * Add the sum of the terms to the energies of some conformations.
     *
     * @param neighbors   other particles in ascending order: at least those within the cut-off of any
     *                    conformation
     * @param positions   of the moved particles in each conformation, [numRows, M, 3] (nm)
     * @param isLeftOut   which conformations are left as they are, [numRows]
     * @param energies    what is added to (kJ/mol)
     */
    void add(const std::vector<int>& neighbors, const double* positions, std::int64_t numRows,
             const std::vector<char>& isLeftOut, double* energies);
    bool isPeriodic() const {
        return form->periodic;
    }
    double getCutoff() const {
        return form->cutoff;
    }
    /**
     * Get particles that are no neighbours: those that move, and those that follow them; in ascending order.
     */
    const std::vector<int>& getNotNeighbors() const {
        return without;
    }
    /**
     * Get how far away particles can be that have a part in it (nm): another particle has one in the radius
     * of a second, which has one in the energy of a third, which moved ones change.
     */
    double getReach() const;

private:
    struct Particles;
    class RowSum;
    void lookAtSurroundings();
    double slopeOf(int other);

    const BornForm* form;
    double reach;
    std::vector<int> moved, without;
    std::shared_ptr<const SystemState> state;
    /** All others, as they are without the block; made when they are first asked for. */
    std::shared_ptr<Particles> others;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_BORN_TERMS_H_*/
