#ifndef TIMEWARP_CONSTRAINT_METRIC_H_
#define TIMEWARP_CONSTRAINT_METRIC_H_

#include "internal/windowsExportTimewarp.h"
#include "openmm/System.h"
#include "openmm/Vec3.h"
#include <utility>
#include <vector>

namespace TimewarpPlugin {

/**
 * The measure of constrained dynamics.  With constraints sigma_k on bonds it samples
 * exp(-U/kT) |Z|^(1/2) prod_k delta(sigma_k), where Z_kl = sum_i grad_i sigma_k . grad_i sigma_l / m_i
 * (Fixman 1974; Ciccotti, Lelievre and Vanden-Eijnden, Comm. Pure Appl. Math. 61, 371 (2008)).
 *
 * For bonds to hydrogens Z has a block for each heavy atom X: 1/m_H + 1/m_X on its diagonal and
 * cos(H-X-H)/m_X off it.  Masses are the System's, repartitioned or not, and a model knows nothing of them.
 */
class EXPORT_TIMEWARP ConstraintMetric {
public:
    /** For blocks without constraints. */
    ConstraintMetric() = default;
    /**
     * Throws an exception if the constraints of a moved atom are not those of bonds from one heavy atom to
     * hydrogens.
     *
     * @param particles   the particle of each of the block's atoms
     * @param moved       the atoms among them that proposals move
     */
    ConstraintMetric(const OpenMM::System& system, const std::vector<int>& particles,
                     const std::vector<int>& moved);
    /**
     * Get the constrained bonds, as pairs of the block's atoms: heavy atom and hydrogen.
     */
    const std::vector<std::pair<int, int>>& getBonds() const {
        return bonds;
    }
    /**
     * Get the atoms that constraints tie together, moved atoms among them, in ascending order.
     */
    std::vector<int> getAtoms() const;
    /**
     * Get whether the measure changes with the positions.
     */
    bool matters() const {
        return hasAngles;
    }
    /**
     * Compute log det(Z)/2, but for a constant.
     *
     * @param positions   of the block's atoms (nm)
     */
    double compute(const std::vector<OpenMM::Vec3>& positions) const;
    /**
     * Give constrained bonds their length in proposals, by moving the hydrogen along the bond.  The model
     * keeps lengths as well as single precision can, and its rounding must not add up from state to state.
     *
     * @param proposals   positions (nm), size x 3N, relative to any origin
     */
    void imposeLengths(std::vector<double>& proposals) const;

    /**
     * Get the relative error of that of these lengths which is farthest off.
     *
     * @param positions   of the block's atoms (nm)
     */
    double lengthError(const std::vector<OpenMM::Vec3>& positions) const;

private:
    struct Cluster {
        int heavy;
        double heavyMass;
        std::vector<int> hydrogens;
        std::vector<double> masses, lengths;
        /** Whether proposals move the hydrogen relative to the heavy atom. */
        std::vector<char> isMoved;
    };
    std::vector<Cluster> clusters;
    std::vector<std::pair<int, int>> bonds;
    int numAtoms = 0;
    bool hasAngles = false;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_CONSTRAINT_METRIC_H_*/
