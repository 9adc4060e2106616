#ifndef TIMEWARP_PAIR_TERMS_H_
#define TIMEWARP_PAIR_TERMS_H_

#include "BlockParticles.h"
#include "MovedRegion.h"
#include "NonbondedPairs.h"
#include "SystemState.h"
#include "SystemTerms.h"
#include "TensorExpression.h"
#include <optional>
#include <utility>

namespace TimewarpPlugin {

/**
 * The terms of one form between the moved particles of a block and all others, and among the moved ones.
 * Within the cut-off each pair is counted once, whichever neighbours were listed.
 */
class EXPORT_TIMEWARP PairTerms {
public:
    /**
     * @param form   must outlive this
     */
    PairTerms(const PairForm& form, const BlockParticles& block, double clashEnergy);
    /**
     * Set where everything else is.
     */
    void setState(std::shared_ptr<const SystemState> state, at::Device device);
    /**
     * Set it where neither the box nor parameters have changed.
     */
    void setPositions(std::shared_ptr<const SystemState> state);
    /**
     * Compute the sum of the terms (kJ/mol).
     *
     * @param region    with the box if the form is periodic
     * @param clashes   on exit, set for conformations in which particles were found to stand in each other,
     * [B]
     * @return energies, [B]
     */
    at::Tensor energies(const MovedRegion& region, std::vector<char>& clashes) const;
    bool isPeriodic() const {
        return form->periodic;
    }
    /**
     * Get how far away particles can be that have a part in it (nm).
     */
    double getReach() const {
        return form->cutoff == 0 ? Bounds::INFINITE : form->cutoff;
    }

private:
    struct Neighbors {
        std::vector<int> particles;
        /** Relative to the region's point, x, y and z of each (nm). */
        std::vector<double> positions;
    };
    struct PairTable;
    struct PairLayout;
    double clashDistance() const;
    const PeriodicBox* box() const {
        return form->periodic ? &state->box : NULL;
    }
    at::Tensor loopEnergies(const MovedRegion& region, std::vector<char>& clashes) const;
    at::Tensor expressionEnergies(const MovedRegion& region) const;
    Neighbors findNeighbors(const MovedRegion& region) const;
    TensorExpression::Values parametersOf(const std::vector<int>& particles) const;
    PairTable makeTable(const std::vector<int>& first, const std::vector<int>& second, bool isGrid) const;
    at::Tensor evaluate(const PairLayout& layout, const PairTable& table, const at::Tensor& squares,
                        const at::Tensor& columns) const;
    at::Tensor rowEnergies(const PairTable& table, const at::Tensor& squares) const;
    at::Tensor allEnergies(const PairTable& table, const at::Tensor& squares) const;
    at::Tensor energiesWithin(double distance, const PairTable& table, const at::Tensor& squares) const;
    double weight(int first, int second) const;

    const PairForm* form;
    double clashEnergy;
    /** What is used on CPUs, if the form is one that it computes. */
    std::optional<NonbondedPairs> loop;
    std::vector<int> moved;
    /** In ascending order. */
    std::vector<int> notNeighbors;
    /** Pairs that are excluded, of a moved particle and any other; both ways round if both are moved. */
    std::set<std::pair<int, int>> excluded;
    std::set<int> excludedAny;
    std::shared_ptr<const SystemState> state;
    at::Device device;
    TensorExpression::Values globals;
    TensorExpression::Functions functions;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_PAIR_TERMS_H_*/
